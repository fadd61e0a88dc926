# The operation catalogue: a host tool turns src/azdo/data/ into one file of constant tables.
set(catalogue_source ${PROJECT_SOURCE_DIR}/src/azdo)
set(catalogue_data ${catalogue_source}/data/operations.json
        ${catalogue_source}/data/operations-extra.json
        ${catalogue_source}/data/resource-areas.json)
set(catalogue_table ${PROJECT_BINARY_DIR}/generated/catalogue_table.c)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/generated)

add_executable(make_catalogue ${catalogue_source}/generate/make_catalogue.c
        ${catalogue_source}/generate/make_trie.c)
target_link_libraries(make_catalogue PRIVATE dagward_base PkgConfig::jansson)
target_include_directories(make_catalogue PRIVATE ${PROJECT_SOURCE_DIR}/include)
# The tool gives no memory back before it ends.
add_custom_command(OUTPUT ${catalogue_table}
        COMMAND ${CMAKE_COMMAND} -E env ASAN_OPTIONS=detect_leaks=0
                $<TARGET_FILE:make_catalogue> ${catalogue_data} ${catalogue_table}
        DEPENDS make_catalogue ${catalogue_data} ${catalogue_source}/catalogue_table.h
        COMMENT "Generating the operation catalogue"
        VERBATIM)

add_library(dagward_catalogue STATIC ${catalogue_table})
target_include_directories(dagward_catalogue PUBLIC ${PROJECT_SOURCE_DIR}/include
        PRIVATE ${catalogue_source})
target_link_libraries(dagward_catalogue PUBLIC dagward_base)

# What the strict parser accepts, other parsers must understand the same way. Each comparison runs
# where its oracle is installed.
find_library(http_parser_library http_parser)
find_path(http_parser_include http_parser.h)
if(TARGET dagward_http AND http_parser_library AND http_parser_include)
        add_executable(differential_http_parser ${CMAKE_CURRENT_LIST_DIR}/test_http_parser.c)
        target_include_directories(differential_http_parser SYSTEM PRIVATE ${http_parser_include})
        target_link_libraries(differential_http_parser PRIVATE dagward_http PkgConfig::cmocka
                ${http_parser_library})
        target_compile_definitions(differential_http_parser PRIVATE
                SOURCE_DIR="${PROJECT_SOURCE_DIR}")
        add_test(NAME differential/http_parser COMMAND differential_http_parser)
        set_tests_properties(differential/http_parser PROPERTIES TIMEOUT 300)
endif()

find_program(node_program NAMES node nodejs)
if(TARGET dagward_http)
        add_executable(differential_dump ${CMAKE_CURRENT_LIST_DIR}/dump.c)
        target_link_libraries(differential_dump PRIVATE dagward_http)
        if(node_program)
                add_test(NAME differential/llhttp COMMAND ${node_program}
                        ${CMAKE_CURRENT_LIST_DIR}/oracle_llhttp.js $<TARGET_FILE:differential_dump>
                        ${PROJECT_SOURCE_DIR}/tests/unit/http/data/messages.txt 40)
                set_tests_properties(differential/llhttp PROPERTIES TIMEOUT 300
                        SKIP_RETURN_CODE 77)
        endif()
endif()

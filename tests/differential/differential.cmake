# What the strict parser accepts, other parsers must understand the same way. Each comparison runs
# where its oracle is installed.
find_library(http_parser_library http_parser)
find_path(http_parser_include http_parser.h)
if(TARGET dagward_http AND http_parser_library AND http_parser_include)
        foreach(name http_parser http_parser_response)
                add_executable(differential_${name} ${CMAKE_CURRENT_LIST_DIR}/test_${name}.c)
                target_include_directories(differential_${name} SYSTEM PRIVATE
                        ${http_parser_include})
                target_link_libraries(differential_${name} PRIVATE dagward_http
                        PkgConfig::cmocka ${http_parser_library})
                target_compile_definitions(differential_${name} PRIVATE
                        SOURCE_DIR="${PROJECT_SOURCE_DIR}")
                add_test(NAME differential/${name} COMMAND differential_${name})
                set_tests_properties(differential/${name} PROPERTIES TIMEOUT 300)
        endforeach()
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

# h11, Node.js and nginx, over generated requests and answers: whichever of them are here.
if(TARGET dagward_http)
        add_executable(differential_read ${CMAKE_CURRENT_LIST_DIR}/read.c)
        target_link_libraries(differential_read PRIVATE dagward_http)
        add_test(NAME differential/requests COMMAND /usr/bin/python3
                ${CMAKE_CURRENT_LIST_DIR}/requests.py $<TARGET_FILE:differential_read>)
        set_tests_properties(differential/requests PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
        add_executable(differential_read_answer ${CMAKE_CURRENT_LIST_DIR}/read_answer.c)
        target_link_libraries(differential_read_answer PRIVATE dagward_http)
        add_test(NAME differential/answers COMMAND /usr/bin/python3
                ${CMAKE_CURRENT_LIST_DIR}/answers.py $<TARGET_FILE:differential_read_answer>)
        set_tests_properties(differential/answers PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
endif()

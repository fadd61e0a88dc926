# tests/unit/<module>/test_*.c: one cmocka program each, which may compare with jansson. tests/fuzz/<module>/fuzz_*.c: one fuzz
# target each, which replays the seeds beside it (seeds/<name>/*) under CTest with any compiler.
pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET cmocka)

file(GLOB unit_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/unit/*/test_*.c)
foreach(source ${unit_tests})
        get_filename_component(name ${source} NAME_WE)
        get_filename_component(folder ${source} DIRECTORY)
        get_filename_component(module ${folder} NAME)
        if(TARGET dagward_${module})
                add_executable(${module}_${name} ${source})
                target_link_libraries(${module}_${name} PRIVATE dagward_${module} PkgConfig::cmocka
                        PkgConfig::jansson)
                target_compile_definitions(${module}_${name} PRIVATE
                        TEST_DATA="${folder}/data" SOURCE_DIR="${PROJECT_SOURCE_DIR}")
                add_test(NAME unit/${module}/${name} COMMAND ${module}_${name})
                set_tests_properties(unit/${module}/${name} PROPERTIES TIMEOUT 240)
        endif()
endforeach()

file(GLOB fuzz_targets CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/*/fuzz_*.c)
foreach(source ${fuzz_targets})
        get_filename_component(name ${source} NAME_WE)
        get_filename_component(folder ${source} DIRECTORY)
        get_filename_component(module ${folder} NAME)
        if(TARGET dagward_${module})
                add_executable(${module}_${name} ${source})
                target_link_libraries(${module}_${name} PRIVATE dagward_${module})
                if(DAGWARD_FUZZ)
                        target_link_options(${module}_${name} PRIVATE -fsanitize=fuzzer)
                else()
                        target_sources(${module}_${name} PRIVATE
                                ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
                        add_test(NAME fuzz/${module}/${name}
                                COMMAND ${module}_${name} ${folder}/seeds/${name})
                        set_tests_properties(fuzz/${module}/${name} PROPERTIES TIMEOUT 120)
                endif()
        endif()
endforeach()
# A disk that fails, preloaded by tests/integration/test_audit_faults.py.
add_library(dagward_faults MODULE ${PROJECT_SOURCE_DIR}/tests/integration/kit/faults.c)
# Memory that is out, preloaded by tests/integration/test_memory.py.
add_library(dagward_memory MODULE ${PROJECT_SOURCE_DIR}/tests/integration/kit/memory.c)
# Names that change, preloaded by tests/integration/test_upstream_names.py.
add_library(dagward_resolver MODULE ${PROJECT_SOURCE_DIR}/tests/integration/kit/resolver.c)
# A wall clock that is set, preloaded by tests/integration/test_clock.py.
add_library(dagward_clock MODULE ${PROJECT_SOURCE_DIR}/tests/integration/kit/clock.c)

include(tests/differential/differential.cmake OPTIONAL)
include(tests/corpora/corpora.cmake OPTIONAL)

# The program itself, where a subcommand can be tested without a network.
if(TARGET dagward)
        foreach(command check policy)
                add_test(NAME program/${command}
                        COMMAND ${PROJECT_SOURCE_DIR}/tests/program/${command}.sh
                        $<TARGET_FILE:dagward> ${PROJECT_SOURCE_DIR})
                set_tests_properties(program/${command} PROPERTIES TIMEOUT 120)
        endforeach()
endif()
# How the program was built, and what files say, some of it in thousands of starts: nothing for sanitizers to find.
if(TARGET dagward AND NOT DAGWARD_SANITIZE)
        add_test(NAME program/hardening COMMAND ${PROJECT_SOURCE_DIR}/tests/program/hardening.sh
                $<TARGET_FILE:dagward> ${CMAKE_BUILD_TYPE})
        set_tests_properties(program/hardening PROPERTIES TIMEOUT 60 SKIP_RETURN_CODE 77)
        add_test(NAME program/units COMMAND ${PROJECT_SOURCE_DIR}/tests/program/units.sh
                $<TARGET_FILE:dagward> ${PROJECT_SOURCE_DIR}/docker)
        set_tests_properties(program/units PROPERTIES TIMEOUT 60 SKIP_RETURN_CODE 77)
        add_test(NAME program/threat_model COMMAND ${PROJECT_SOURCE_DIR}/tests/program/threat_model.sh
                ${PROJECT_SOURCE_DIR})
        add_test(NAME program/docs COMMAND /usr/bin/python3
                ${PROJECT_SOURCE_DIR}/tests/program/docs.py $<TARGET_FILE:dagward>
                ${PROJECT_SOURCE_DIR})
        set_tests_properties(program/docs PROPERTIES TIMEOUT 120)
        add_test(NAME program/mutate_policies COMMAND /usr/bin/python3
                ${PROJECT_SOURCE_DIR}/tests/program/mutate_policies.py
                $<TARGET_FILE:dagward> ${PROJECT_SOURCE_DIR}/policies)
        set_tests_properties(program/mutate_policies PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
        include(tests/schema/schema.cmake OPTIONAL)
endif()

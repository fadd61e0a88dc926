# Policy files and mutants of one: the JSON Schema and the parser say the same. Skipped where
# python3-jsonschema is not installed.
add_test(NAME schema/policies COMMAND /usr/bin/python3
        ${PROJECT_SOURCE_DIR}/tests/schema/check.py ${PROJECT_SOURCE_DIR}/policies
        ${PROJECT_SOURCE_DIR}/tests $<TARGET_FILE:dagward>)
set_tests_properties(schema/policies PROPERTIES TIMEOUT 120 SKIP_RETURN_CODE 77)

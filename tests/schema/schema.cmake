# The example policies against the JSON Schema; skipped where python3-jsonschema is not installed.
add_test(NAME schema/policies COMMAND /usr/bin/python3
        ${PROJECT_SOURCE_DIR}/tests/schema/check.py ${PROJECT_SOURCE_DIR}/policies)
set_tests_properties(schema/policies PROPERTIES TIMEOUT 60 SKIP_RETURN_CODE 77)

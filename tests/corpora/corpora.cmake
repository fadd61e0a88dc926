# Corpora of hostile and honest input: the runner feeds every vector to a program that answers with
# what the module says, and fails when one comes out another way than it must.
add_executable(token_jwt_exec ${PROJECT_SOURCE_DIR}/tests/corpora/jwt_exec.c)
target_link_libraries(token_jwt_exec PRIVATE dagward_token)
add_test(NAME corpora/jwt COMMAND /usr/bin/python3 ${PROJECT_SOURCE_DIR}/tests/corpora/run-jwt
        --strict --exec $<TARGET_FILE:token_jwt_exec>)
# Wycheproof's payloads are no claims: here only keys and signatures are judged.
add_test(NAME corpora/jws COMMAND /usr/bin/python3 ${PROJECT_SOURCE_DIR}/tests/corpora/run-jwt
        --strict --level jws --file ${PROJECT_SOURCE_DIR}/tests/corpora/jwt/wycheproof.json
        --exec $<TARGET_FILE:token_jwt_exec> --jws)
set_tests_properties(corpora/jwt corpora/jws PROPERTIES TIMEOUT 300)

# Not a test: prints what identification costs. `ninja token_bench && ./token_bench`
add_executable(token_bench EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/bench/token_bench.c)
target_link_libraries(token_bench PRIVATE dagward_token)

# cmake --install: everything but the program itself, in the usual places of a distribution.
include(GNUInstallDirs)

install(FILES ${PROJECT_SOURCE_DIR}/docs/dagward.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

file(GLOB guides CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/*.md ${PROJECT_SOURCE_DIR}/docs/*.json)
install(FILES ${guides} DESTINATION ${CMAKE_INSTALL_DOCDIR})

install(DIRECTORY ${PROJECT_SOURCE_DIR}/policies/
        DESTINATION ${CMAKE_INSTALL_DATADIR}/dagward/policies
        FILES_MATCHING PATTERN "*.yaml" PATTERN "*.schema.json") # the first line of examples names it
install(DIRECTORY ${PROJECT_SOURCE_DIR}/policies/
        DESTINATION ${CMAKE_INSTALL_DATADIR}/dagward/schemas
        FILES_MATCHING PATTERN "*.schema.json")

# The unit names the program by its path, which depends on the prefix.
file(READ ${PROJECT_SOURCE_DIR}/docker/dagward.service unit)
string(REPLACE "/usr/bin/dagward" "${CMAKE_INSTALL_FULL_BINDIR}/dagward" unit "${unit}")
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/dagward.service CONTENT "${unit}" @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dagward.service ${PROJECT_SOURCE_DIR}/docker/dagward.socket
        DESTINATION lib/systemd/system)
# The same unit once more, for instances of which one takes the place of another.
install(FILES ${PROJECT_BINARY_DIR}/dagward.service DESTINATION lib/systemd/system
        RENAME dagward@.service)
install(FILES ${PROJECT_SOURCE_DIR}/docker/dagward.sysusers.conf DESTINATION lib/sysusers.d
        RENAME dagward.conf)

/*
 * commands: the subcommands of the program, one file each.
 *
 * Each gets its own name as argv[0] and answers with an exit status: 0 yes or done, 1 a negative
 * answer, 2 wrong usage or invalid input.
 */
#ifndef DAGWARD_PROXY_COMMANDS_H
#define DAGWARD_PROXY_COMMANDS_H

enum { EXIT_YES = 0, EXIT_NO = 1, EXIT_USAGE = 2 };

int command_serve(int argc, char **argv);
int command_demo(int argc, char **argv);
int command_emulate(int argc, char **argv);
int command_check(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_policy(int argc, char **argv);
int command_audit(int argc, char **argv);
int command_operations(int argc, char **argv);
int command_agent(int argc, char **argv);
int command_git_credential(int argc, char **argv);
int command_version(int argc, char **argv);

#endif

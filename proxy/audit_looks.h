/* `dagward audit trace`, `report` and `export`: each gets its own name as argv[0] and answers with
 * an exit status. */
#ifndef DAGWARD_PROXY_AUDIT_LOOKS_H
#define DAGWARD_PROXY_AUDIT_LOOKS_H

int audit_trace(int argc, char **argv);
int audit_report(int argc, char **argv);
int audit_export(int argc, char **argv);

#endif

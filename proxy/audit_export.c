#include "audit_looks.h"
int audit_export(int argc, char **argv)
{
        (void)argc;
        (void)argv;
        return 2;
}

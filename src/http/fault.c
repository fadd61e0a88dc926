#include "dagward/http/fault.h"

bool h1_fault_set(
        struct h1_fault *fault, int status, const char *rule, const char *why, size_t offset)
{
        *fault = (struct h1_fault){status, rule, why, offset};
        return false;
}

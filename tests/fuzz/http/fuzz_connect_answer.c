/* Any bytes as what a proxy says to CONNECT: the same whole and in pieces, a way only for a 2xx. */
#include <assert.h>

#include "dagward/http/connect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str text = str_view((const char *)data, size);
        size_t scanned = 0, drip_scanned = 0;
        int status, drip_status = 0;
        enum connect_answer got = connect_judge(text, &scanned, &status), drip = CONNECT_AGAIN;

        for (size_t len = 1; len <= size && drip == CONNECT_AGAIN; len++)
                drip = connect_judge(str_head(text, len), &drip_scanned, &drip_status);
        if (got == CONNECT_STRAY) /* its head was whole before the rest came */
                assert(drip == CONNECT_OPEN);
        else if (drip == CONNECT_AGAIN) /* a fault may be noticed only when its line has ended */
                assert(got == CONNECT_AGAIN || got == CONNECT_BROKEN);
        else
                assert(drip == got);
        assert((got == CONNECT_OPEN || got == CONNECT_STRAY) == (status >= 200 && status < 300));
        assert((got == CONNECT_NO) == (status >= 300));
        return 0;
}

/* What a status and a cause mean. See intaglio.h. */
#include "intaglio.h"

const char *intaglio_status_text(intaglio_status status)
{
    switch (status) {
#define CASE(name, number, text) \
    case INTAGLIO_##name:        \
        return text;
        INTAGLIO_STATUSES(CASE)
#undef CASE
    }
    return "an unknown status";
}

const char *intaglio_cause_text(uint32_t cause)
{
    switch (cause) {
#define CASE(name, number, meaning) \
    case INTAGLIO_CAUSE_##name:     \
        return meaning;
        INTAGLIO_CAUSES(CASE)
#undef CASE
    }
    return "The cause is unknown: the machine is of another version.";
}

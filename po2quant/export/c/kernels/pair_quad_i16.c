#define PAIR_QUAD_i16                               \
    "ldrd %[a], %[b], [%[x]], #8\n\t"               \
    "ldrd %[t], %[u], [%[p]], #8\n\t"               \
    "smlad %[s0], %[a], %[t], %[s0]\n\t"            \
    "smlad %[s1], %[b], %[t], %[s1]\n\t"            \
    "ldrd %[t], %[v], [%[q]], #8\n\t"               \
    "smlad %[s2], %[a], %[t], %[s2]\n\t"            \
    "smlad %[s3], %[b], %[t], %[s3]\n\t"            \
    "ldrd %[a], %[b], [%[x]], #8\n\t"               \
    "smlad %[s0], %[a], %[u], %[s0]\n\t"            \
    "smlad %[s1], %[b], %[u], %[s1]\n\t"            \
    "smlad %[s2], %[a], %[v], %[s2]\n\t"            \
    "smlad %[s3], %[b], %[v], %[s3]\n\t"

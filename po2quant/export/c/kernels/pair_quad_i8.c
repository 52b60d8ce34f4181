/* Each word of weights is widened once. */
#define PAIR_QUAD_i8                                \
    "ldrd %[a], %[b], [%[x]], #8\n\t"               \
    "ldr %[u], [%[p]], #4\n\t"                      \
    "ldr %[v], [%[q]], #4\n\t"                      \
    "sxtb16 %[t], %[u]\n\t"                         \
    "smlad %[s0], %[a], %[t], %[s0]\n\t"            \
    "smlad %[s1], %[b], %[t], %[s1]\n\t"            \
    "sxtb16 %[t], %[v]\n\t"                         \
    "smlad %[s2], %[a], %[t], %[s2]\n\t"            \
    "smlad %[s3], %[b], %[t], %[s3]\n\t"            \
    "ldrd %[a], %[b], [%[x]], #8\n\t"               \
    "sxtb16 %[t], %[u], ror #8\n\t"                 \
    "smlad %[s0], %[a], %[t], %[s0]\n\t"            \
    "smlad %[s1], %[b], %[t], %[s1]\n\t"            \
    "sxtb16 %[t], %[v], ror #8\n\t"                 \
    "smlad %[s2], %[a], %[t], %[s2]\n\t"            \
    "smlad %[s3], %[b], %[t], %[s3]\n\t"

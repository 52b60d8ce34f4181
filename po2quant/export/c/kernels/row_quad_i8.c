#define ROW_OF_BYTES(sum, row)                      \
    "ldr %[u], " row "\n\t"                         \
    "sxtb16 %[t], %[u]\n\t"                         \
    "sxtb16 %[u], %[u], ror #8\n\t"                 \
    "smlad %[" sum "], %[a], %[t], %[" sum "]\n\t"  \
    "smlad %[" sum "], %[b], %[u], %[" sum "]\n\t"
#define ROW_QUAD_i8                                 \
    ROW_OF_BYTES("s1", "[%[p], %[step]]")           \
    ROW_OF_BYTES("s2", "[%[p], %[step], lsl #1]")   \
    ROW_OF_BYTES("s0", "[%[p]], #4")                \
    ROW_OF_BYTES("s3", "[%[q]], #4")

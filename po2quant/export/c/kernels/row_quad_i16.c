#define ROW_OF_WORDS(sum, row, input)               \
    "ldr %[t], " row "\n\t"                         \
    "smlad %[" sum "], %[" input "], %[t], %[" sum "]\n\t"
#define ROW_PAIR_i16(input)                         \
    ROW_OF_WORDS("s1", "[%[p], %[step]]", input)    \
    ROW_OF_WORDS("s2", "[%[p], %[step], lsl #1]", input) \
    ROW_OF_WORDS("s0", "[%[p]], #4", input)         \
    ROW_OF_WORDS("s3", "[%[q]], #4", input)
#define ROW_QUAD_i16 ROW_PAIR_i16("a") ROW_PAIR_i16("b")

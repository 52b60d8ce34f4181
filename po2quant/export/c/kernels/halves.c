#if defined(DSP_KERNELS)
/* Four bytes, wherever they start. */
typedef struct {
    uint32_t word;
} __attribute__((packed, may_alias)) unaligned;

INLINE u32 word_at(const void *bytes)
{
    return ((const unaligned *)bytes)->word;
}

/* Four integers as two words of two integers of 16 bits: of bytes, 0 and 2, then 1 and 3; of 16 bits, 0 and 1, then 2
 * and 3. */
#define HALVES(byte, extend)                                             \
    INLINE u32 first_##byte(const byte *four)                            \
    {                                                                    \
        u32 pair;                                                        \
        __asm__(extend " %0, %1" : "=r"(pair) : "r"(word_at(four)));     \
        return pair;                                                     \
    }                                                                    \
    INLINE u32 second_##byte(const byte *four)                           \
    {                                                                    \
        u32 pair;                                                        \
        __asm__(extend " %0, %1, ror #8" : "=r"(pair) : "r"(word_at(four))); \
        return pair;                                                     \
    }
HALVES(i8, "sxtb16")
HALVES(u8, "uxtb16")

INLINE u32 first_i16(const i16 *four)
{
    return word_at(four);
}

INLINE u32 second_i16(const i16 *four)
{
    return word_at(four + 2);
}

/* The lower, and the upper, integers of two words. */
INLINE u32 lower_halves(u32 first, u32 second)
{
    return (first & 0xFFFF) | (second << 16);
}

INLINE u32 upper_halves(u32 first, u32 second)
{
    return (first >> 16) | (second & 0xFFFF0000);
}

/* A sum and two products. */
INLINE i32 plus_products(i32 sum, u32 x, u32 w)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(w));
    return sum;
}
#endif

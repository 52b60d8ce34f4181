#if defined(DSP_KERNELS)
/* Bytes 0 and 2, and bytes 1 and 3, of a word as two integers of 16 bits. */
INLINE u32 even_i8(u32 word)
{
    u32 pair;
    __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
    return pair;
}

INLINE u32 odd_i8(u32 word)
{
    u32 pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}

INLINE u32 even_u8(u32 word)
{
    u32 pair;
    __asm__("uxtb16 %0, %1" : "=r"(pair) : "r"(word));
    return pair;
}

INLINE u32 odd_u8(u32 word)
{
    u32 pair;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}

/* Four bytes, wherever they start. */
typedef struct {
    uint32_t word;
} __attribute__((packed, may_alias)) unaligned;

INLINE u32 word_at(const void *bytes)
{
    return ((const unaligned *)bytes)->word;
}

/* The integers 0 and 1, 2 and 3, of two pairs 0 and 2, 1 and 3; and the other way round. */
INLINE u32 lower_halves(u32 even, u32 odd)
{
    return (even & 0xFFFF) | (odd << 16);
}

INLINE u32 upper_halves(u32 even, u32 odd)
{
    return (even >> 16) | (odd & 0xFFFF0000);
}
#endif

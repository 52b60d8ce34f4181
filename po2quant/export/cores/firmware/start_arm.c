/* Start-up of a Cortex-M: vectors and coprocessors. */
#include <stdint.h>

extern uint8_t h_stack_high[];
void h_start(void);
void h_fault(void);

void h_reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= UINT32_C(0xF) << 20; /* floating point and vectors */
    __asm__ volatile("dsb\n isb");
    h_start();
}

typedef void (*vector)(void);
__attribute__((section(".vectors"), used)) const vector h_vectors[16] = {
    (vector)(uintptr_t)h_stack_high, h_reset, h_fault, h_fault, h_fault, h_fault, h_fault,
};

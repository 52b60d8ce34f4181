/* Start-up of a RISC-V core. */
__attribute__((naked, section(".vectors"), used)) void h_reset(void)
{
    __asm__ volatile("la sp, h_stack_high\n"
                     "j h_start\n");
}

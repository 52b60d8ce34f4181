/* Files and exit through semihosting, and how deep the stack grew. Reads inputs.bin; writes outputs.bin, tensors.bin. */
#include "stdio.h"

#include <stdint.h>

typedef uintptr_t word;

enum { OPEN = 1, CLOSE = 2, WRITE = 5, READ = 6, EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };
enum { FILES = 4, READ_BINARY = 1, WRITE_BINARY = 5 };

extern uint8_t h_stack_low[], h_stack_high[], h_bss_start[], h_bss_end[];
extern uint8_t h_data_start[], h_data_end[], h_data_image[];
int main(int argc, char **argv);

#if defined(__riscv)
__attribute__((noinline)) static long h_call(long operation, const void *block)
{
    register long a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = block;
    __asm__ volatile(".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}
#else
static long h_call(long operation, const void *block)
{
    register long r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
#endif

h_file *h_fopen(const char *name, const char *mode)
{
    static h_file files[FILES];
    static int opened;
    word length = 0;
    while (((volatile const char *)name)[length] != 0)
        ++length;
    const word block[3] = {(word)name, mode[0] == 'r' ? READ_BINARY : WRITE_BINARY, length};
    const int handle = (int)h_call(OPEN, block);
    if (handle < 0 || opened == FILES)
        return NULL;
    files[opened].handle = handle;
    return &files[opened++];
}

size_t h_fread(void *to, size_t size, size_t count, h_file *file)
{
    const word block[3] = {(word)file->handle, (word)to, size * count};
    return (size * count - (size_t)h_call(READ, block)) / size;
}

size_t h_fwrite(const void *from, size_t size, size_t count, h_file *file)
{
    const word block[3] = {(word)file->handle, (word)from, size * count};
    return (size * count - (size_t)h_call(WRITE, block)) / size;
}

int h_fclose(h_file *file)
{
    const word block[1] = {(word)file->handle};
    return (int)h_call(CLOSE, block);
}

static void h_exit(int code)
{
    const word block[2] = {APPLICATION_EXIT, (word)code};
    for (;;)
        h_call(EXIT_EXTENDED, block);
}

void h_fault(void)
{
    h_exit(99);
}

enum { PAINT = 0xA5, RESERVE = 256 };

/* Called by the start-up code: memory is made as C expects it, and the stack painted. */
void h_start(void)
{
    volatile const uint8_t *image = h_data_image;
    for (volatile uint8_t *byte = h_data_start; byte < h_data_end; ++byte)
        *byte = *image++;
    for (volatile uint8_t *byte = h_bss_start; byte < h_bss_end; ++byte)
        *byte = 0;
    uint8_t *const here = (uint8_t *)&here - RESERVE;
    for (volatile uint8_t *byte = h_stack_low; byte < here; ++byte)
        *byte = PAINT;
    static char name[] = "network", inputs[] = "inputs.bin", outputs[] = "outputs.bin", tensors[] = "tensors.bin";
    char *files[] = {name, inputs, outputs, tensors, NULL};
#ifdef PO2QUANT_TRACE
    const int code = main(4, files);
#else
    const int code = main(3, files);
#endif
    const uint8_t *deepest = h_stack_low;
    while (deepest < here && *deepest == PAINT)
        ++deepest;
    const uint32_t stack_bytes = (uint32_t)(h_stack_high - deepest);
    h_file *const file = h_fopen("stack.bin", "wb");
    if (file != NULL)
        (void)h_fwrite(&stack_bytes, sizeof stack_bytes, 1, file);
    h_exit(code);
}

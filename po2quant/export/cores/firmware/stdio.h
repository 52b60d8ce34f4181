/* As much of stdio.h as a generated <name>_main.c uses, on files of the machine that emulates the core (semihosting).
 * All that belongs to the harness is called h_*, so that a count of instructions can leave it out. */
#ifndef PO2QUANT_SEMIHOSTED_STDIO_H
#define PO2QUANT_SEMIHOSTED_STDIO_H

#include <stddef.h>

typedef struct {
    int handle;
} h_file;

h_file *h_fopen(const char *name, const char *mode);
size_t h_fread(void *to, size_t size, size_t count, h_file *file);
size_t h_fwrite(const void *from, size_t size, size_t count, h_file *file);
int h_fclose(h_file *file);

#define FILE h_file
#define fopen h_fopen
#define fread h_fread
#define fwrite h_fwrite
#define fclose h_fclose
#define ferror(file) ((void)(file), 0)
#define fprintf(...) ((void)0)
#define printf(...) ((void)0)

#endif

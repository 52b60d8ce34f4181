/* Reads samples of raw integers, input by input, and writes the outputs of each; with $trace also all tensors. */
#include <stdio.h>

#include "$name.h"

$arrays

#ifdef $trace
enum { FILES = 3 };
static FILE *tensors;

void ${name}_trace(const char *tensor, const void *integers, size_t size_bytes)
{
    (void)tensor;
    (void)fwrite(integers, 1, size_bytes, tensors);
}
#else
enum { FILES = 2 };
#endif

int main(int argc, char **argv)
{
    if (argc != FILES + 1) {
        fprintf(stderr, "%s needs %d files: inputs, outputs, and with $trace tensors\n", argv[0], FILES);
        return 2;
    }
    FILE *const inputs = fopen(argv[1], "rb");
    FILE *const outputs = fopen(argv[2], "wb");
    if (inputs == NULL || outputs == NULL) {
        fprintf(stderr, "%s cannot open %s or %s\n", argv[0], argv[1], argv[2]);
        return 1;
    }
#ifdef $trace
    tensors = fopen(argv[3], "wb");
    if (tensors == NULL) {
        fprintf(stderr, "%s cannot open %s\n", argv[0], argv[3]);
        return 1;
    }
#endif
    int written = 1;
    while (written && $reads) {
        ${name}_run($arguments);
        written = $writes;
    }
    written = fclose(outputs) == 0 && written;
#ifdef $trace
    written = !ferror(tensors) && fclose(tensors) == 0 && written;
#endif
    (void)fclose(inputs);
    return written ? 0 : 1;
}

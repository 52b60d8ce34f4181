/* Runs $name on $samples samples whose outputs are known, without files: a check of compiler, flags and memory.
 * ${name}_self_test() returns how many outputs differ; 0 is right. -D${prefix}_TEST_MAIN makes a program of it. */
#include "$name.h"

int32_t ${name}_self_test(void);

$vectors

int32_t ${name}_self_test(void)
{
    int32_t differing = 0;
    for (int32_t sample = 0; sample < $samples; ++sample) {
        ${name}_run($arguments);
$comparisons
    }
    return differing;
}

#ifdef ${prefix}_TEST_MAIN
int main(void)
{
    return ${name}_self_test() == 0 ? 0 : 1;
}
#endif

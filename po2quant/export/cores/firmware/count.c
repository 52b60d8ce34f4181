/* A QEMU plugin that counts how often the instruction at each address is executed.
 * qemu-system-arm ... -plugin file=./count.so,out=counts.txt,base=0x0
 * writes "<hex address> <count>" a line; base is where the code starts. Debian ships no header: the prototypes stand
 * here, of version 1 of the interface. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { SLOTS = 1 << 22, ADD = 0 };

struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);

EXPORT int qemu_plugin_version = 1;
static uint64_t counts[SLOTS], base;
static const char *out = "counts.txt";

static void translated(uint64_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct qemu_plugin_insn *const instruction = qemu_plugin_tb_get_insn(block, i);
        const uint64_t slot = (qemu_plugin_insn_vaddr(instruction) - base) >> 1;
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, &counts[slot < SLOTS ? slot : SLOTS - 1], 1);
    }
}

static void finished(uint64_t id, void *data)
{
    (void)id, (void)data;
    FILE *const file = fopen(out, "w");
    if (file == NULL)
        return;
    for (uint64_t slot = 0; slot < SLOTS; slot++)
        if (counts[slot] != 0)
            fprintf(file, "%" PRIx64 " %" PRIu64 "\n", base + 2 * slot, counts[slot]);
    fclose(file);
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0)
            out = strdup(argv[i] + 4);
        if (strncmp(argv[i], "base=", 5) == 0)
            base = strtoull(argv[i] + 5, NULL, 0);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}

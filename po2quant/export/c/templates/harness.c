/* $name under the commands of MLPerf Tiny's runner, model $model: each ends in '%', each is answered until m-ready.
 * Three functions of board.h connect it to a serial line and a clock. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../${name}_io.h"
#include "board.h"

enum { COMMAND_BYTES = 80, WARM_UP = 10, IS_ANOMALY = $is_anomaly };

static uint8_t buffer[$input_bytes];
static size_t expected, received;
static $input_type input[${prefix}_INPUT_SIZE];
static $output_type output[${prefix}_OUTPUT_SIZE];

static void say(const char *text)
{
    while (*text != '\0')
        board_write(*text++);
}

static void say_number(uint32_t number)
{
    char digits[11];
    size_t place = sizeof digits - 1;
    digits[place] = '\0';
    do
        digits[--place] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    say(digits + place);
}

/* With three places behind the point. */
static void say_real(float value)
{
    const uint32_t thousandths = (uint32_t)(fabsf(value) * 1000.0f + 0.5f);
    say(value < 0.0f && thousandths > 0 ? "-" : "");
    say_number(thousandths / 1000);
    board_write('.');
    say(thousandths % 1000 < 100 ? "0" : "");
    say(thousandths % 100 == thousandths % 1000 && thousandths % 100 < 10 ? "0" : "");
    say_number(thousandths % 1000);
}

static void say_timestamp(void)
{
    say("m-lap-us-");
    say_number(board_microseconds());
    say("\r\n");
}

/* What the runner sends for input i: $input_words. */
static float real_input(int32_t i)
{
$real_input
}

/* The probability of each class, or the mean squared difference of output and input. */
static void say_results(void)
{
    float total = 0.0f;
    const float largest = ${name}_value_of_output(output[IS_ANOMALY ? 0 : ${name}_argmax_output(output)]);
    for (int32_t i = 0; i < ${prefix}_OUTPUT_SIZE; ++i) {
        const float value = ${name}_value_of_output(output[i]), error = value - (IS_ANOMALY ? real_input(i) : largest);
        total += IS_ANOMALY ? error * error : expf(error);
    }
    say("m-results-[");
    if (IS_ANOMALY)
        say_real(total / ${prefix}_OUTPUT_SIZE);
    for (int32_t i = 0; !IS_ANOMALY && i < ${prefix}_OUTPUT_SIZE; ++i) {
        say(i > 0 ? "," : "");
        say_real(expf(${name}_value_of_output(output[i]) - largest) / total);
    }
    say("]\r\n");
}

static void infer(uint32_t times, uint32_t warm_up)
{
    for (int32_t i = 0; i < ${prefix}_INPUT_SIZE; ++i)
        input[i] = ${name}_quantize_input(real_input(i));
    say("m-warmup-start-");
    say_number(warm_up);
    say("\r\n");
    for (; warm_up > 0; --warm_up)
        ${name}_run(input, output);
    say("m-warmup-done\r\nm-infer-start-");
    say_number(times);
    say("\r\n");
    say_timestamp();
    for (; times > 0; --times)
        ${name}_run(input, output);
    say_timestamp();
    say("m-infer-done\r\n");
    say_results();
}

static int32_t value_of_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    const char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static void load_bytes(const char *digits)
{
    if (strlen(digits) % 2 != 0) {
        say("e-[Insufficient number of hex digits]\r\n");
        return;
    }
    for (; *digits != '\0' && received < expected; digits += 2) {
        const int32_t high = value_of_digit(digits[0]), low = value_of_digit(digits[1]);
        if (high < 0 || low < 0) {
            say("e-[Invalid hex digit]\r\n");
            return;
        }
        buffer[received++] = (uint8_t)(16 * high + low);
        if (received == expected)
            say("m-load-done\r\n");
    }
}

static void print_buffer(void)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < expected; ++i) {
        say(i % 8 == 0 ? "m-buffer-" : "-");
        board_write(digits[buffer[i] / 16]);
        board_write(digits[buffer[i] % 16]);
        say(i % 8 == 7 || i + 1 == expected ? "\r\n" : "");
    }
}

static void use_buffer(const char *what, const char *count)
{
    if (what == NULL)
        say("e-[Command 'db' requires a subcommand]\r\n");
    else if (strcmp(what, "print") == 0)
        print_buffer();
    else if (strcmp(what, "load") != 0)
        load_bytes(what);
    else if (count == NULL || strtoul(count, NULL, 10) == 0)
        say("e-[Command 'db load' requires the number of bytes]\r\n");
    else if (strtoul(count, NULL, 10) > sizeof buffer)
        say("e-[More bytes than the network's input]\r\n");
    else {
        expected = strtoul(count, NULL, 10);
        received = 0;
        say("m-[Expecting ");
        say_number((uint32_t)expected);
        say(" bytes]\r\n");
    }
}

static void answer(char *command)
{
    const char *const word = strtok(command, " ");
    const char *const first = word == NULL ? NULL : strtok(NULL, " ");
    const char *const second = first == NULL ? NULL : strtok(NULL, " ");
    if (word == NULL || strcmp(word, "name") == 0)
        say(word == NULL ? "" : "m-name-dut-[$name]\r\n");
    else if (strcmp(word, "timestamp") == 0)
        say_timestamp();
    else if (strcmp(word, "profile") == 0)
        say("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[$model]\r\n");
    else if (strcmp(word, "help") == 0)
        say("name, timestamp, profile, db load N, db HEX, db print, infer N [W=10], results\r\n");
    else if (strcmp(word, "db") == 0)
        use_buffer(first, second);
    else if (strcmp(word, "results") == 0)
        say_results();
    else if (strcmp(word, "infer") == 0 && first != NULL && strtoul(first, NULL, 10) == 0)
        say("e-[Inference iterations must be >0]\r\n");
    else if (strcmp(word, "infer") == 0)
        infer(first == NULL ? 1 : (uint32_t)strtoul(first, NULL, 10),
              second == NULL ? WARM_UP : (uint32_t)strtoul(second, NULL, 10));
    else {
        say("e-[Unknown command: ");
        say(word);
        say("]\r\n");
    }
    say("m-ready\r\n");
}

int main(void)
{
    static char command[COMMAND_BYTES + 1];
    size_t length = 0;
    say("m-init-done\r\nm-ready\r\n");
    for (int character = board_read(); character >= 0; character = board_read()) {
        if (character == '%') {
            command[length] = '\0';
            length = 0;
            answer(command);
        } else if (length < COMMAND_BYTES && character >= ' ')
            command[length++] = (char)character;
    }
    return 0;
}

#include "$name.h"

enum {
    FFT = $fft_samples, HALF = FFT / 2, WINDOW = $window_samples, STEP = $step, START = $start, BANDS = $band_count,
    FRAME_SHIFT = $frame_shift, TWIDDLE_BITS = $twiddle_bits, LOG_BITS = $log_bits, LOG_STEPS_BITS = $log_steps_bits,
    LOG_BASE = $log_base
};

typedef struct {
    uint16_t first, end, place; /* bins, and where their weights begin */
} band;

$arrays

static int32_t real[HALF], imaginary[HALF];

/* A complex number times a twiddle; each part is rounded half up once. */
static inline void turn(int64_t *re, int64_t *im, int32_t place)
{
    const int64_t cosine = cosines[place], sine = sines[place], half = INT64_C(1) << (TWIDDLE_BITS - 1);
    const int64_t turned = (*re * cosine - *im * sine + half) >> TWIDDLE_BITS;
    *im = (*re * sine + *im * cosine + half) >> TWIDDLE_BITS;
    *re = turned;
}

/* Windowed samples from start on, two of them a complex number, in reverse order of bits. Returns how many places they
 * are shifted up: small samples keep their low bits. */
static int32_t load(const int16_t *sound, int32_t samples, int32_t start)
{
    const int32_t first = start > 0 ? start : 0, end = start + WINDOW < samples ? start + WINDOW : samples;
    int32_t largest = 1, places = 0;
    for (int32_t from = first; from < end; ++from) {
        const int32_t size = sound[from] < 0 ? -sound[from] : sound[from];
        largest = size > largest ? size : largest;
    }
    for (; places < FRAME_SHIFT && largest << places < 1 << 14; ++places) {}
    const int32_t shift = FRAME_SHIFT - places;
    for (int32_t i = 0; i < HALF; ++i)
        real[i] = imaginary[i] = 0;
    for (int32_t i = 0; i < WINDOW; ++i) {
        const int32_t from = start + i, value = from >= first && from < end ? sound[from] : 0;
        int32_t to = 0;
        for (int32_t bit = 1, place = i / 2; bit < HALF; bit *= 2, place /= 2)
            to = 2 * to + (place & 1);
        (i % 2 == 0 ? real : imaginary)[to] = (value * (int32_t)window[i] + ((1 << shift) >> 1)) >> shift;
    }
    return places;
}

static void transform(void)
{
    for (int32_t size = 1; size < HALF; size *= 2)
        for (int32_t first = 0; first < HALF; first += 2 * size)
            for (int32_t k = first; k < first + size; ++k) {
                int64_t re = real[k + size], im = imaginary[k + size];
                turn(&re, &im, (k - first) * (HALF / size));
                real[k + size] = (int32_t)(real[k] - re);
                imaginary[k + size] = (int32_t)(imaginary[k] - im);
                real[k] = (int32_t)(real[k] + re);
                imaginary[k] = (int32_t)(imaginary[k] + im);
            }
}

/* The squared magnitude of twice the spectrum. */
static uint64_t square(int32_t bin)
{
    const int32_t near = bin % HALF, far = (HALF - bin) % HALF;
    int64_t odd_re = (int64_t)real[near] - real[far], odd_im = (int64_t)imaginary[near] + imaginary[far];
    turn(&odd_re, &odd_im, bin);
    const int64_t re = (int64_t)real[near] + real[far] + odd_im;
    const int64_t im = (int64_t)imaginary[near] - imaginary[far] - odd_re;
    return (uint64_t)(re * re + im * im);
}

$spectrum

/* The logarithm to base 2 of an integer of 1 or more. */
static int32_t log2_of(uint64_t value)
{
    int32_t exponent = 63;
    for (; value >> 63 == 0; value <<= 1)
        --exponent;
    const int32_t place = (int32_t)(value >> (63 - LOG_STEPS_BITS)) & ((1 << LOG_STEPS_BITS) - 1);
    const int32_t rest = (int32_t)(value >> (63 - LOG_STEPS_BITS - 16)) & 0xFFFF;
    return (exponent << LOG_BITS) + logs[place] + (((logs[place + 1] - logs[place]) * rest + 0x8000) >> 16);
}

/* Rounded half to even, and clipped. */
static ${output}_t output_of(int64_t total)
{
    const int64_t half = INT64_C(1) << ($output_shift - 1);
    const int64_t value = (total + half - 1 + ((total >> $output_shift) & 1)) >> $output_shift;
    return (${output}_t)(value < $low ? $low : value > $high ? $high : value);
}

void ${name}_run(const int16_t *sound, int32_t samples, ${output}_t *features)
{
    static int32_t band_logs[BANDS];
$offset
    for (int32_t frame = 0; frame < ${prefix}_FRAMES; ++frame) {
        const int32_t places = $power * load(sound, samples, START + frame * STEP);
        const uint64_t scaled = (offset << places) >> $offset_bits, added = scaled > 1 ? scaled : 1;
        transform();
        for (int32_t b = 0; b < BANDS; ++b) {
            uint64_t sum = added;
            for (int32_t bin = bands[b].first; bin < bands[b].end; ++bin)
                sum += spectrum(bin) * weights[bands[b].place + bin - bands[b].first];
            band_logs[b] = log2_of(sum) - base - places * (1 << LOG_BITS);
        }
        for (int32_t i = 0; i < ${prefix}_SIZE; ++i)
            *features++ = output_of($total);
    }
}

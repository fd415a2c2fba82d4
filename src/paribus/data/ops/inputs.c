/* Stored pixels to a batch's inputs on a CPU, in one pass: crop, flip, normalisation. Called by native.py.

   An image is staged as bytes in the L1 cache, in its final order, and then normalised in one stream. Results are
   bit-exact with the tensor operations in crop_flip.py, resize.py and core/streams.py: random numbers and resampling
   are integer arithmetic, and normalisation is one product and one sum in float32, which -ffp-contract=off keeps apart.
   So the bits depend neither on the number of threads nor on the CPU. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#define ABREAST (LANES / 4)  /* rows that are resized together, a pixel of each in four lanes */
#define STAGE 12288          /* bytes of whole rows that are staged at once, unless one row is longer */
#define MOST_CHANNELS 4
#define BITS 22              /* fractional bits of the resampling weights */
#define WORTHWHILE (1 << 15) /* values of a batch below which one thread is faster than several */
#define GOLDEN 0x9E3779B97F4A7C15u

typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    const uint8_t *images;       /* (., height, width, channels) */
    const int64_t *rows;         /* (count,) index of each image; NULL: image i is the i-th */
    const int64_t *ids;          /* (count,) sample ids of the random numbers; NULL: none drawn */
    const int64_t *boxes;        /* (count, 4) top, left, height, width, to be resized; NULL: pad and crop instead */
    const float *scale, *shift;  /* of each channel */
    float *out;                  /* (count, channels, out_height, out_width) in either layout, or NULL */
    uint8_t *out_bytes;          /* (count, out_height, out_width, channels) where out is NULL */
    int64_t count, height, width, channels, out_height, out_width, pad;
    int64_t key;                 /* of the random numbers */
    int64_t flip;                /* which number, from 1, flips an image if it is below one half; 0: no flip */
    int64_t channels_last, support, threads;
    int64_t next;                /* the first image that no thread has taken */
    int64_t failed;              /* 1 if out of memory */
} Job;

typedef struct {                 /* of one axis: output i is the sum of `count[i]` inputs from first[i] on */
    int32_t *first, *count, *weight; /* weight: (size, most) */
    double *raw;
    int64_t size, most;
} Taps;

typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

/* -- random numbers: SplitMix64, as core/streams.py -- */

static uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static float drawn(uint64_t sample, int64_t number)
{
    return (float)(mixed(sample + (uint64_t)number * GOLDEN) >> 40) * 0x1p-24f;
}

void draws(int64_t key, const int64_t *ids, int64_t count, int64_t n, float *out)
{
    for (int64_t i = 0; i < count; i++) {
        const uint64_t sample = mixed((uint64_t)ids[i] * GOLDEN + (uint64_t)key);
        for (int64_t k = 0; k < n; k++)
            out[i * n + k] = drawn(sample, k + 1);
    }
}

/* -- LANES bytes to numbers and back; compilers make slow code of the plain loops -- */

static inline ints widened(const uint8_t *at)
{
#if defined(__AVX512F__)
    return (ints)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)at));
#elif defined(__AVX2__)
    return (ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at));
#else
    ints made;
    for (int64_t i = 0; i < LANES; i++)
        made[i] = at[i];
    return made;
#endif
}

static inline int32_t clipped(int32_t sum)
{
    sum >>= BITS;
    return sum < 0 ? 0 : sum > 255 ? 255 : sum;
}

/* Fixed-point sums with BITS fractional bits, half a unit already added for rounding, to grey levels. */
static inline void clip_to(uint8_t *to, ints sum)
{
#if defined(__AVX512F__)
    const __m512i whole = _mm512_max_epi32(_mm512_srai_epi32((__m512i)sum, BITS), _mm512_setzero_si512());
    _mm_storeu_si128((__m128i *)to, _mm512_cvtusepi32_epi8(whole));
#elif defined(__AVX2__)
    const __m256i whole = _mm256_srai_epi32((__m256i)sum, BITS), twice = _mm256_packs_epi32(whole, whole);
    const __m128i words = _mm256_castsi256_si128(_mm256_permute4x64_epi64(twice, 8));
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(words, words));
#else
    for (int64_t i = 0; i < LANES; i++)
        to[i] = (uint8_t)clipped(sum[i]);
#endif
}

/* -- normalisation -- */

/* n interleaved values that begin with channel 0, of whole pixels */
static inline __attribute__((always_inline)) void normalise_last(const Job *job, const uint8_t *from, float *to,
                                                                 int64_t n, const int64_t channels)
{
    floats scale[MOST_CHANNELS], shift[MOST_CHANNELS];
    for (int64_t i = 0; i < LANES * channels; i++) {
        scale[i / LANES][i % LANES] = job->scale[i % channels];
        shift[i / LANES][i % LANES] = job->shift[i % channels];
    }
    int64_t i = 0;
    for (; i + LANES * channels <= n; i += LANES * channels)
        for (int64_t j = 0; j < channels; j++) {
            const floats value = __builtin_convertvector(widened(from + i + LANES * j), floats);
            *(floats *)(to + i + LANES * j) = value * scale[j] + shift[j];
        }
    for (; i < n; i++)
        to[i] = (float)from[i] * job->scale[i % channels] + job->shift[i % channels];
}

/* interleaved pixels of one image to its channel planes, each `plane` values long */
static inline __attribute__((always_inline)) void normalise_first(const Job *job, const uint8_t *restrict from,
                                                                  float *restrict to, int64_t pixels, int64_t plane,
                                                                  const int64_t channels)
{
    for (int64_t c = 0; c < channels; c++) {
        const float scale = job->scale[c], shift = job->shift[c];
        for (int64_t i = 0; i < pixels; i++)
            to[c * plane + i] = (float)from[i * channels + c] * scale + shift;
    }
}

/* Write the staged rows of image i, from `row` on, to the output. */
static void emit(const Job *job, int64_t i, int64_t row, int64_t rows, const uint8_t *staged)
{
    const int64_t channels = job->channels, plane = job->out_height * job->out_width;
    const int64_t pixels = rows * job->out_width, first = row * job->out_width;
    if (!job->out) {
        memcpy(job->out_bytes + (i * plane + first) * channels, staged, pixels * channels);
        return;
    }
    float *to = job->out + i * plane * channels;
    if (channels == 1)
        normalise_last(job, staged, to + first, pixels, 1);
    else if (job->channels_last && channels == 3)
        normalise_last(job, staged, to + first * 3, pixels * 3, 3);
    else if (job->channels_last)
        normalise_last(job, staged, to + first * channels, pixels * channels, channels);
    else if (channels == 3)
        normalise_first(job, staged, to + first, pixels, plane, 3);
    else
        normalise_first(job, staged, to + first, pixels, plane, channels);
}

/* -- pad, crop, flip -- */

static inline __attribute__((always_inline)) void mirror(uint8_t *restrict to, const uint8_t *restrict from,
                                                         int64_t pixels, const int64_t channels)
{
    for (int64_t x = 0; x < pixels; x++)
        for (int64_t c = 0; c < channels; c++)
            to[x * channels + c] = from[(pixels - 1 - x) * channels + c];
}

static void pad_crop(const Job *job, int64_t i, uint8_t *staged, uint8_t *line)
{
    const int64_t height = job->height, width = job->width, channels = job->channels, length = width * channels;
    const uint8_t *image = job->images + (job->rows ? job->rows[i] : i) * height * length;
    int64_t top = 0, left = 0, mirrored = 0;
    if (job->ids) {
        const uint64_t sample = mixed((uint64_t)job->ids[i] * GOLDEN + (uint64_t)job->key);
        const float places = (float)(2 * job->pad + 1);
        if (job->pad) {
            top = (int64_t)(drawn(sample, 1) * places) - job->pad;
            left = (int64_t)(drawn(sample, 2) * places) - job->pad;
        }
        mirrored = job->flip && drawn(sample, job->flip) < 0.5f;
    }
    if (!top && !left && !mirrored) {
        emit(job, i, 0, height, image);
        return;
    }
    /* columns from..to of the result show pixels of the image */
    const int64_t from = left < 0 ? (-left < width ? -left : width) : 0;
    const int64_t to = left > 0 ? (width - left > from ? width - left : from) : width;
    const int64_t at_once = STAGE / length > 1 ? STAGE / length : 1;
    for (int64_t row = 0; row < height; row += at_once) {
        const int64_t rows = height - row < at_once ? height - row : at_once;
        for (int64_t y = 0; y < rows; y++) {
            uint8_t *final = staged + y * length, *made = mirrored ? line : final;
            const int64_t source = row + y + top;
            if (source < 0 || source >= height || from >= to) {
                memset(final, 0, length);
                continue;
            }
            memset(made, 0, from * channels);
            memcpy(made + from * channels, image + source * length + (from + left) * channels, (to - from) * channels);
            memset(made + to * channels, 0, (width - to) * channels);
            if (mirrored && channels == 3)
                mirror(final, line, width, 3);
            else if (mirrored)
                mirror(final, line, width, channels);
        }
        emit(job, i, row, rows, staged);
    }
}

/* -- resized crop: Pillow's arithmetic, see resize.py -- */

static double filtered(double x, int64_t support)
{
    x = fabs(x);
    if (support == 1)
        return x < 1.0 ? 1.0 - x : 0.0;
    if (x < 1.0)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0.0;
}

static void find_taps(Taps *taps, int64_t length, int64_t support)
{
    const double scale = (double)length / taps->size, stretch = scale < 1.0 ? 1.0 : scale;
    const double reach = support * stretch, inverse = 1.0 / stretch;
    for (int64_t i = 0; i < taps->size; i++) {
        const double centre = (i + 0.5) * scale;
        int64_t first = (int64_t)(centre - reach + 0.5), end = (int64_t)(centre + reach + 0.5);
        first = first < 0 ? 0 : first;
        end = end > length ? length : end;
        double total = 0;
        for (int64_t k = 0; k < end - first; k++)
            total += taps->raw[k] = filtered(((k + first) - centre + 0.5) * inverse, support);
        for (int64_t k = 0; k < end - first; k++) {
            const double weight = (total != 0.0 ? taps->raw[k] / total : taps->raw[k]) * (1 << BITS);
            taps->weight[i * taps->most + k] = (int32_t)((weight < 0 ? -0.5 : 0.5) + weight);
        }
        taps->first[i] = (int32_t)first;
        taps->count[i] = (int32_t)(end - first);
    }
}

/* Rows of `length` bytes to taps->size rows; from and to: row strides. */
static void down(const Taps *taps, const uint8_t *source, int64_t from, int64_t length, uint8_t *result, int64_t to)
{
    for (int64_t i = 0; i < taps->size; i++) {
        const int32_t *weight = taps->weight + i * taps->most, count = taps->count[i];
        const uint8_t *column = source + taps->first[i] * from;
        uint8_t *made = result + i * to;
        int64_t x = 0;
        for (; x + 2 * LANES <= length; x += 2 * LANES) { /* two sums at once hide the latency of a product */
            ints a = (ints){0} + (1 << (BITS - 1)), b = a;
            for (int32_t k = 0; k < count; k++) {
                const uint8_t *at = column + k * from + x;
                a += widened(at) * weight[k];
                b += widened(at + LANES) * weight[k];
            }
            clip_to(made + x, a);
            clip_to(made + x + LANES, b);
        }
        for (; x < length; x++) {
            int32_t sum = 1 << (BITS - 1);
            for (int32_t k = 0; k < count; k++)
                sum += column[k * from + x] * weight[k];
            made[x] = (uint8_t)clipped(sum);
        }
    }
}

/* `rows` rows of `width` pixels to rows of taps->size pixels, mirrored on request; from: row stride of the source.
   ABREAST rows are processed together; group has room for LANES bytes per source pixel. */
static inline __attribute__((always_inline)) void across_(const Taps *taps, const uint8_t *source, int64_t from,
                                                          int64_t rows, int64_t width, uint8_t *result, uint8_t *group,
                                                          int64_t mirrored, const int64_t channels)
{
    const int64_t size = taps->size, length = size * channels;
    for (int64_t row = 0; row < rows; row += ABREAST) {
        for (int64_t r = 0; r < ABREAST; r++) { /* the last row replaces rows beyond the end */
            const uint8_t *line = source + (row + r < rows ? row + r : rows - 1) * from;
            int64_t x = 0;
            if (channels == 3) /* also reads a fourth byte, the next pixel's first, which is not used */
                for (; x < width - 1; x++)
                    memcpy(group + LANES * x + 4 * r, line + 3 * x, 4);
            for (; x < width; x++)
                for (int64_t c = 0; c < channels; c++)
                    group[LANES * x + 4 * r + c] = line[x * channels + c];
        }
        for (int64_t x = 0; x < size; x++) {
            const int64_t i = mirrored ? size - 1 - x : x;
            const int32_t *weight = taps->weight + i * taps->most, count = taps->count[i];
            const uint8_t *at = group + LANES * taps->first[i];
            ints sum = (ints){0} + (1 << (BITS - 1));
            for (int32_t k = 0; k < count; k++)
                sum += widened(at + LANES * k) * weight[k];
            uint8_t pixel[LANES];
            clip_to(pixel, sum);
            for (int64_t r = 0; r < ABREAST && row + r < rows; r++) {
                uint8_t *to = result + (row + r) * length + x * channels;
                if (channels == 3 && x < size - 1) /* the next pixel overwrites the fourth byte */
                    memcpy(to, pixel + 4 * r, 4);
                else
                    for (int64_t c = 0; c < channels; c++)
                        to[c] = pixel[4 * r + c];
            }
        }
    }
}

static void across(const Job *job, const Taps *taps, const uint8_t *source, int64_t from, int64_t rows, int64_t width,
                   uint8_t *result, uint8_t *group, int64_t mirrored)
{
    if (job->channels == 3)
        across_(taps, source, from, rows, width, result, group, mirrored, 3);
    else
        across_(taps, source, from, rows, width, result, group, mirrored, job->channels);
}

typedef struct {                 /* the buffers of one thread */
    Taps wide, high;
    uint8_t *half, *staged, *group;
} Room;

static void resized_crop(const Job *job, int64_t i, Room *room)
{
    const int64_t *box = job->boxes + 4 * i, height = box[2], width = box[3];
    const int64_t channels = job->channels, line = job->width * channels;
    const uint8_t *corner = job->images + ((job->rows ? job->rows[i] : i) * job->height + box[0]) * line + box[1] * channels;
    int64_t mirrored = 0, spared = width > job->out_width ? width - job->out_width : 0;
    if (job->flip)
        mirrored = drawn(mixed((uint64_t)job->ids[i] * GOLDEN + (uint64_t)job->key), job->flip) < 0.5f;
    find_taps(&room->wide, width, job->support);
    find_taps(&room->high, height, job->support);
    if (height - job->out_height > 2 * spared) {
        down(&room->high, corner, line, width * channels, room->half, width * channels);
        across(job, &room->wide, room->half, width * channels, job->out_height, width, room->staged, room->group, mirrored);
    } else {
        const int64_t length = job->out_width * channels;
        across(job, &room->wide, corner, line, height, width, room->half, room->group, mirrored);
        down(&room->high, room->half, length, length, room->staged, length);
    }
    emit(job, i, 0, job->out_height, room->staged);
}

static int64_t find_room(const Job *job, Room *room)
{
    const int64_t height = job->height, width = job->width;
    const int64_t across = width > job->out_width ? width : job->out_width, tall = height > job->out_height ? height : job->out_height;
    const int64_t stretch = (across + job->out_width - 1) / job->out_width, stretch_high = (tall + job->out_height - 1) / job->out_height;
    room->wide = (Taps){.size = job->out_width, .most = 2 * job->support * stretch + 1};
    room->high = (Taps){.size = job->out_height, .most = 2 * job->support * stretch_high + 1};
    Taps *both[] = {&room->wide, &room->high};
    int64_t whole = 1;
    for (int64_t i = 0; i < 2; i++) {
        Taps *taps = both[i];
        taps->raw = malloc(sizeof(double) * taps->most);
        taps->first = malloc(sizeof(int32_t) * taps->size * (taps->most + 2));
        whole &= taps->raw && taps->first;
        taps->count = taps->first + taps->size;
        taps->weight = taps->count + taps->size;
    }
    room->half = malloc(tall * across * job->channels);
    room->staged = malloc(job->out_height * job->out_width * job->channels);
    room->group = calloc(width, LANES);         /* lanes without a channel are computed too */
    return whole && room->half && room->staged && room->group;
}

static void leave(Room *room)
{
    free(room->wide.raw), free(room->wide.first), free(room->high.raw), free(room->high.first);
    free(room->half), free(room->staged), free(room->group);
}

/* -- threads take images in runs -- */

static void work(void *given)
{
    Job *job = given;
    Room room = {0};
    const int64_t length = job->width * job->channels, run = job->count / (4 * job->threads) + 1;
    int64_t whole;
    if (job->boxes) {
        whole = find_room(job, &room);
    } else {
        room.staged = malloc(length > STAGE ? length : STAGE);
        room.half = malloc(length);
        whole = room.staged && room.half;
    }
    if (!whole)
        __atomic_store_n(&job->failed, 1, __ATOMIC_RELAXED);
    while (whole) {
        const int64_t first = __atomic_fetch_add(&job->next, run, __ATOMIC_RELAXED);
        if (first >= job->count)
            break;
        for (int64_t i = first; i < first + run && i < job->count; i++) {
            if (job->boxes)
                resized_crop(job, i, &room);
            else
                pad_crop(job, i, room.staged, room.half);
        }
    }
    leave(&room);
}

/* parallel: GOMP_parallel of the OpenMP library that torch has loaded, or NULL. Returns 0, or 1 if out of memory. */
int pixels(Job *job, Parallel parallel)
{
    const int64_t values = job->count * job->out_height * job->out_width * job->channels;
    if (parallel && job->threads > 1 && values > WORTHWHILE)
        parallel(work, job, job->threads, 0);
    else
        work(job);
    return job->failed;
}

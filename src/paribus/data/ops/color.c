/* Pillow's colour and affine operations, image by image on a CPU: bit-exact with color.py and affine.py, which take
   whole batches. Each image gets its own operations, in turn, while it is in the cache. Called by native.py. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORTHWHILE (1 << 14) /* values of a batch below which one thread is faster than several */

enum { NONE, BRIGHTNESS, CONTRAST, SATURATION, HUE, SHARPNESS, AUTOCONTRAST, EQUALIZE, INVERT, POSTERIZE, SOLARIZE,
       SOLARIZE_ADD, AFFINE };

typedef struct {
    uint8_t *images;             /* (count, height, width, channels), changed in place; 1 or 3 channels */
    const int32_t *operations;   /* (count, turns) */
    const double *arguments;     /* (count, turns, 6): the first is a factor, bits, a threshold ...; or a matrix */
    const int64_t *fill;         /* (channels,) for AFFINE */
    int64_t count, height, width, channels, turns, bicubic, threads, next, failed;
} Job;

typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

static uint8_t blended(int other, int level, float factor)
{
    const float made = other + factor * (level - other);
    return made <= 0 ? 0 : made >= 255 ? 255 : (uint8_t)made;
}

static int grey(const uint8_t *pixel)
{
    return (19595 * pixel[0] + 38470 * pixel[1] + 7471 * pixel[2] + 0x8000) >> 16;
}

static void look_up(const Job *job, uint8_t *image, uint8_t (*table)[256], int each)
{
    const int64_t values = job->height * job->width * job->channels;
    if (!each || job->channels == 1)
        for (int64_t i = 0; i < values; i++)
            image[i] = table[0][image[i]];
    else
        for (int64_t i = 0; i < values; i += 3) {
            image[i] = table[0][image[i]];
            image[i + 1] = table[1][image[i + 1]];
            image[i + 2] = table[2][image[i + 2]];
        }
}

/* Operations that need no more than one table for all channels. */
static void by_level(const Job *job, uint8_t *image, int operation, double argument)
{
    const int64_t pixels = job->height * job->width;
    const int number = (int)argument;
    uint8_t table[1][256];
    int other = 0;
    if (operation == CONTRAST) {
        int64_t sum = 0;
        for (int64_t i = 0; i < pixels; i++)
            sum += job->channels == 1 ? image[i] : grey(image + 3 * i);
        other = (int)((2 * sum + pixels) / (2 * pixels));
    }
    for (int i = 0; i < 256; i++)
        switch (operation) {
        case INVERT: table[0][i] = 255 - i; break;
        case POSTERIZE: table[0][i] = i >> (8 - number) << (8 - number); break;
        case SOLARIZE: table[0][i] = i < number ? i : 255 - i; break;
        case SOLARIZE_ADD: table[0][i] = i >= 128 ? i : i + number > 255 ? 255 : i + number; break;
        default: table[0][i] = blended(other, i, (float)argument);
        }
    look_up(job, image, table, 0);
}

static void by_histogram(const Job *job, uint8_t *image, int operation)
{
    const int64_t pixels = job->height * job->width, channels = job->channels;
    uint8_t table[3][256];
    for (int64_t c = 0; c < channels; c++) {
        int64_t counts[256] = {0}, low = 255, high = 0, before = 0;
        for (int64_t i = 0; i < pixels; i++)
            counts[image[i * channels + c]]++;
        for (int64_t i = 0; i < 256; i++)
            if (counts[i]) {
                low = i < low ? i : low;
                high = i;
            }
        const double scale = 255.0 / (high > low ? high - low : 1), offset = -low * scale;
        const int64_t step = (pixels - counts[high]) / 255;
        for (int64_t i = 0; i < 256; i++) {
            double level = i;
            if (operation == AUTOCONTRAST && high > low)
                level = i * scale + offset;
            else if (operation == EQUALIZE && high > low && step)
                level = (double)((step / 2 + before) / step);
            table[c][i] = level <= 0 ? 0 : level >= 255 ? 255 : (uint8_t)level;
            before += counts[i];
        }
    }
    look_up(job, image, table, 1);
}

static void saturate(const Job *job, uint8_t *image, float factor)
{
    for (int64_t i = 0; i < 3 * job->height * job->width; i += 3) {
        const int other = grey(image + i);
        for (int c = 0; c < 3; c++)
            image[i + c] = blended(other, image[i + c], factor);
    }
}

static void sharpen(const Job *job, uint8_t *image, uint8_t *copy, float factor)
{
    const int64_t channels = job->channels, line = job->width * channels;
    memcpy(copy, image, job->height * line);
    for (int64_t y = 0; y < job->height; y++)
        for (int64_t x = 0; x < line; x++) {
            const uint8_t *at = copy + y * line + x;
            int smooth = *at;
            if (y && y < job->height - 1 && x >= channels && x < line - channels) {
                int total = 4 * *at;
                for (int64_t row = -line; row <= line; row += line)
                    total += at[row - channels] + at[row] + at[row + channels];
                smooth = (2 * total + 13) / 26;
            }
            image[y * line + x] = blended(smooth, *at, factor);
        }
}

static uint8_t level(float x)    /* C's round, then clipped */
{
    const double made = floor((double)x + 0.5);
    return made <= 0 ? 0 : made >= 255 ? 255 : (uint8_t)made;
}

/* Convert.c's rgb2hsv and hsv2rgb: floats, and doubles where a sum or product has a double constant. */
static void turn(const Job *job, uint8_t *image, int shift)
{
    for (int64_t i = 0; i < 3 * job->height * job->width; i += 3) {
        const int r = image[i], g = image[i + 1], b = image[i + 2];
        const int most = r > g ? (r > b ? r : b) : g > b ? g : b, least = r < g ? (r < b ? r : b) : g < b ? g : b;
        uint8_t hue = 0, full = 0;
        if (most != least) {
            const float spread = most - least, from_r = (most - r) / spread, from_g = (most - g) / spread,
                        from_b = (most - b) / spread;
            float angle = r == most ? from_b - from_g
                        : g == most ? (float)(2.0 + from_r - from_b)
                                    : (float)(4.0 + from_g - from_r);
            const double sixth = angle / 6.0 + 1.0;
            angle = sixth >= 1.0 ? sixth - 1.0 : sixth;
            hue = (int)(angle * 255.0);
            full = (int)(spread / (float)most * 255.0);
        }
        hue += shift;
        if (full == 0) {
            image[i] = image[i + 1] = image[i + 2] = most;
            continue;
        }
        const double place = hue * 6.0 / 255.0, sector = floor(place);
        const float part = place - sector, share = full / 255.0f;
        const uint8_t v = most, p = level(v * (1.0 - share)), q = level(v * (1.0 - (double)share * part)),
                      t = level(v * (1.0 - share * (1.0 - part)));
        const uint8_t made[6][3] = {{v, t, p}, {q, v, p}, {p, v, t}, {p, q, v}, {t, p, v}, {v, p, q}};
        memcpy(image + i, made[(int)sector % 6], 3);
    }
}

static inline double between(const double *v, double share, const int64_t bicubic)
{
    if (!bicubic)
        return v[0] + (v[1] - v[0]) * share;
    const double first = v[2] - v[0], second = 2 * (v[0] - v[1]) + v[2] - v[3], third = -v[0] + v[1] - v[2] + v[3];
    return v[1] + share * (first + share * (second + share * third));
}

static int64_t inside(int64_t x, int64_t size)
{
    return x < 0 ? 0 : x < size ? x : size - 1;
}

static inline __attribute__((always_inline)) void move_(const Job *job, uint8_t *image, uint8_t *copy, const double *m,
                                                         const int64_t channels, const int64_t bicubic)
{
    const int64_t height = job->height, width = job->width;
    const int64_t reach = bicubic ? 4 : 2;
    memcpy(copy, image, height * width * channels);
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            uint8_t *to = image + (y * width + x) * channels;
            double at_x = m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2], at_y = m[3] * (x + 0.5) + m[4] * (y + 0.5) + m[5];
            if (!(at_x >= 0 && at_x < width && at_y >= 0 && at_y < height)) {
                for (int64_t c = 0; c < channels; c++)
                    to[c] = (uint8_t)job->fill[c];
                continue;
            }
            at_x -= 0.5, at_y -= 0.5;
            const double left = floor(at_x), top = floor(at_y), dx = at_x - left, dy = at_y - top;
            const uint8_t *row[4];
            int64_t column[4];
            for (int64_t k = 0; k < reach; k++) {
                row[k] = copy + inside((int64_t)top + k - (bicubic != 0), height) * width * channels;
                column[k] = inside((int64_t)left + k - (bicubic != 0), width) * channels;
            }
            for (int64_t c = 0; c < channels; c++) {
                double values[4], rows[4];
                for (int64_t j = 0; j < reach; j++) {
                    for (int64_t k = 0; k < reach; k++)
                        values[k] = row[j][column[k] + c];
                    rows[j] = between(values, dx, bicubic);
                }
                const double made = between(rows, dy, bicubic);
                to[c] = made <= 0 ? 0 : made >= 255 ? 255 : (uint8_t)made;
            }
        }
}

static void move(const Job *job, uint8_t *image, uint8_t *copy, const double *m)
{
    if (job->channels == 3 && job->bicubic)
        move_(job, image, copy, m, 3, 1);
    else if (job->channels == 3)
        move_(job, image, copy, m, 3, 0);
    else
        move_(job, image, copy, m, 1, job->bicubic);
}

static void change(const Job *job, uint8_t *image, uint8_t *copy, int operation, const double *arguments)
{
    switch (operation) {
    case NONE: break;
    case SATURATION: if (job->channels == 3) saturate(job, image, (float)*arguments); break;
    case HUE: if (job->channels == 3) turn(job, image, (int)*arguments); break;
    case SHARPNESS: sharpen(job, image, copy, (float)*arguments); break;
    case AUTOCONTRAST: case EQUALIZE: by_histogram(job, image, operation); break;
    case AFFINE: move(job, image, copy, arguments); break;
    default: by_level(job, image, operation, *arguments);
    }
}

static void work(void *given)
{
    Job *job = given;
    const int64_t size = job->height * job->width * job->channels;
    uint8_t *copy = malloc(size);
    if (!copy)
        __atomic_store_n(&job->failed, 1, __ATOMIC_RELAXED);
    while (copy) {
        const int64_t i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (i >= job->count)
            break;
        for (int64_t turn = 0; turn < job->turns; turn++)
            change(job, job->images + i * size, copy, job->operations[i * job->turns + turn],
                   job->arguments + (i * job->turns + turn) * 6);
    }
    free(copy);
}

/* parallel: GOMP_parallel of the OpenMP library that torch has loaded, or NULL. Returns 0, or 1 if out of memory. */
int tones(Job *job, Parallel parallel)
{
    const int64_t values = job->count * job->height * job->width * job->channels;
    if (parallel && job->threads > 1 && values > WORTHWHILE)
        parallel(work, job, job->threads, 0);
    else
        work(job);
    return job->failed;
}

/* One projecting step for many tensors on a CPU. Compiled by core/native.py with -DREAL=float or -DREAL=double.

   The first pass reads gradients and weights only and takes <g,w>, <g,g> and <w,w> of every row; then it is known whether
   to project, and how. The second pass is the step itself, row by row: states, update u, <u,w>, weight, while the row
   is in the L1 cache. That is 9 reads and writes of every element, where Adam alone needs 7. Only the layer view, which
   is rare, and rows longer than LONG need <u,w> from more than is in the cache: they compute u a second time.

   The bits do not depend on the number of threads: work is cut by position only, and every sum has a fixed order. They
   do not depend on the CPU either, as long as the compiler forms no fused multiply-adds. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define SPAN 1024            /* elements of one piece of work, in whole rows where they are shorter */
#define LONG 16384           /* elements of the longest row whose update is kept */
#define BATCH (1 << 18)      /* elements between two joins of the threads, unless one tensor has more */
#define WORTHWHILE (1 << 15) /* elements below which one thread is faster than several */
#define LANES ((int64_t)(64 / sizeof(REAL)))

typedef REAL lanes __attribute__((vector_size(64), aligned(sizeof(REAL))));

enum { NONE, CHANNEL, LAYER };
enum { GW, GG, WW, UW };

typedef struct {
    REAL *w, *g, *a, *b;    /* a: Adam's m or SGD's buffer; b: Adam's v */
    float *step;            /* Adam only */
    int64_t size, rows;     /* rows: 0 if the tensor is never projected */
} Leaf;

typedef struct {
    double lr, decay, delta, wd_ratio, eps;
    double beta1, beta2;    /* SGD: momentum, dampening */
    int32_t is_adam, nesterov, alias, threads;
} Rule;

typedef struct {            /* of one leaf, during one step */
    int64_t length, unit, units, first_unit, first_row;
    REAL rate, root;        /* lr/(1-beta1^t), 1/sqrt(1-beta2^t); SGD: lr, unused */
    REAL scale;             /* 1; lr where rate is 1, for an aliased buffer is to be projected whatever lr is */
    double decay, along;    /* along: how much of w is in a change of the layer, over the squared length */
    int32_t view;
} Place;

typedef struct {
    const Rule *rule;
    const Leaf *leaf;
    Place *place;
    double (*sums)[4];      /* of every row */
    int64_t begin, end, units, next;
    int pass;
} Job;

typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

static void update_states(const Job *job, const Leaf *x, int64_t from, int64_t n)
{
    const REAL *restrict g = x->g + from;
    REAL *restrict a = x->a + from;
    if (job->rule->is_adam) {
        REAL *restrict b = x->b + from;
        const REAL b1 = job->rule->beta1, c1 = 1 - job->rule->beta1, b2 = job->rule->beta2, c2 = 1 - job->rule->beta2;
        for (int64_t i = 0; i < n; i++) {
            a[i] = b1 * a[i] + c1 * g[i];
            b[i] = b2 * b[i] + c2 * g[i] * g[i];
        }
    } else {
        const REAL momentum = job->rule->beta1, kept = 1 - job->rule->beta2;
        for (int64_t i = 0; i < n; i++)
            a[i] = momentum * a[i] + kept * g[i];
    }
}

/* change = -rate * u */
static void make_changes(const Job *job, const Leaf *x, const Place *at, int64_t from, int64_t n, REAL *restrict change)
{
    const REAL *restrict g = x->g + from, *restrict a = x->a + from;
    const REAL rate = -at->rate;
    if (job->rule->is_adam) {
        const REAL *restrict b = x->b + from;
        const REAL root = at->root, eps = job->rule->eps;
        const REAL b1 = job->rule->beta1, c1 = 1 - job->rule->beta1;
        if (job->rule->nesterov)
            for (int64_t i = 0; i < n; i++)
                change[i] = rate * (b1 * a[i] + c1 * g[i]) / (SQRT(b[i]) * root + eps);
        else
            for (int64_t i = 0; i < n; i++)
                change[i] = rate * a[i] / (SQRT(b[i]) * root + eps);
    } else if (job->rule->nesterov) {
        const REAL momentum = job->rule->beta1;
        for (int64_t i = 0; i < n; i++)
            change[i] = rate * (g[i] + momentum * a[i]);
    } else {
        for (int64_t i = 0; i < n; i++)
            change[i] = rate * a[i];
    }
}

/* <x,y> of at most SPAN elements, in REAL. */
static double dot(const REAL *x, const REAL *y, int64_t n)
{
    lanes many = {0};
    REAL few = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        many += *(const lanes *)(x + i) * *(const lanes *)(y + i);
    for (; i < n; i++)
        few += x[i] * y[i];
    double sum = few;
    if (n >= LANES)
        for (int l = 0; l < LANES; l++)
            sum += many[l];
    return sum;
}

static double long_dot(const REAL *x, const REAL *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i += SPAN)
        sum += dot(x + i, y + i, n - i < SPAN ? n - i : SPAN);
    return sum;
}

/* What dot gives for <g,w>, <g,g> and <w,w>, reading once. */
static void test_sums(const REAL *g, const REAL *w, int64_t n, double *sums)
{
    lanes gw = {0}, gg = {0}, ww = {0};
    REAL few[3] = {0, 0, 0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const lanes x = *(const lanes *)(g + i), y = *(const lanes *)(w + i);
        gw += x * y;
        gg += x * x;
        ww += y * y;
    }
    for (; i < n; i++) {
        few[GW] += g[i] * w[i];
        few[GG] += g[i] * g[i];
        few[WW] += w[i] * w[i];
    }
    for (int k = 0; k < 3; k++)
        sums[k] += few[k];
    if (n >= LANES)
        for (int l = 0; l < LANES; l++) {
            sums[GW] += gw[l];
            sums[GG] += gg[l];
            sums[WW] += ww[l];
        }
}

/* w += scale * change + factor * w, and the momentum buffer loses what is along w if it is aliased */
static void move(const Job *job, const Leaf *x, const Place *at, int64_t from, int64_t n, const REAL *restrict change,
                 double along)
{
    REAL *restrict w = x->w + from;
    const REAL scale = at->scale, factor = -at->decay - at->scale * along, share = along;
    if (job->rule->alias && along != 0)
        for (int64_t i = 0; i < n; i++)
            x->a[from + i] += share * w[i];
    for (int64_t i = 0; i < n; i++)
        w[i] += scale * change[i] + factor * w[i];
}

static double share(double uw, double ww, double eps)
{
    const double length = sqrt(ww) + eps;
    return uw / length / length;
}

/* A row too long to keep its update, or a piece of a tensor whose update's share of w is known only after all rows. */
static double states_and_product(const Job *job, const Leaf *x, const Place *at, int64_t from, int64_t n)
{
    REAL change[SPAN];
    double sum = 0;
    for (int64_t i = 0; i < n; i += SPAN) {
        const int64_t m = n - i < SPAN ? n - i : SPAN;
        update_states(job, x, from + i, m);
        make_changes(job, x, at, from + i, m, change);
        sum += dot(change, x->w + from + i, m);
    }
    return sum;
}

static void again_and_move(const Job *job, const Leaf *x, const Place *at, int64_t from, int64_t n, double along)
{
    REAL change[SPAN];
    for (int64_t i = 0; i < n; i += SPAN) {
        const int64_t m = n - i < SPAN ? n - i : SPAN;
        make_changes(job, x, at, from + i, m, change);
        move(job, x, at, from + i, m, change, along);
    }
}

static void step_of_unit(const Job *job, const Leaf *x, const Place *at, int64_t from, int64_t n)
{
    REAL change[LONG];
    const double eps = job->rule->eps;
    double(*sums)[4] = job->sums + at->first_row + (x->rows ? from / at->length : 0);
    if (at->view == LAYER) {
        for (int64_t i = 0; i < n; i += at->length)
            (*sums++)[UW] = states_and_product(job, x, at, from + i, at->length);
        return;
    }
    if (n > LONG) { /* one row */
        const double uw = states_and_product(job, x, at, from, n);
        again_and_move(job, x, at, from, n, at->view == CHANNEL ? share(uw, (*sums)[WW], eps) : 0);
        return;
    }
    update_states(job, x, from, n);
    make_changes(job, x, at, from, n, change);
    if (at->view == NONE) {
        move(job, x, at, from, n, change, 0);
        return;
    }
    for (int64_t i = 0; i < n; i += at->length, sums++) {
        const double uw = long_dot(change + i, x->w + from + i, at->length);
        move(job, x, at, from + i, at->length, change + i, share(uw, (*sums)[WW], eps));
    }
}

static void one_unit(const Job *job, const Leaf *x, const Place *at, int64_t unit)
{
    const int64_t from = unit * at->unit, n = from + at->unit < x->size ? at->unit : x->size - from;
    if (job->pass == 1)
        step_of_unit(job, x, at, from, n);
    else if (job->pass == 2 && at->view == LAYER)
        again_and_move(job, x, at, from, n, at->along);
    else if (job->pass == 0 && x->rows)
        for (int64_t i = 0; i < n; i += at->length) {
            double *sums = job->sums[at->first_row + (from + i) / at->length];
            sums[GW] = sums[GG] = sums[WW] = 0;
            for (int64_t j = i; j < i + at->length; j += SPAN)
                test_sums(x->g + from + j, x->w + from + j, i + at->length - j < SPAN ? i + at->length - j : SPAN, sums);
        }
}

/* Threads take runs of units, since each run is read in one stream. */
static void work(void *given)
{
    Job *job = given;
    const int64_t run = job->units / (4 * job->rule->threads) + 1;
    for (;;) {
        const int64_t first = __atomic_fetch_add(&job->next, run, __ATOMIC_RELAXED);
        if (first >= job->units)
            return;
        int64_t number = job->place[job->begin].first_unit + first;
        const int64_t after = job->place[job->begin].first_unit + (first + run < job->units ? first + run : job->units);
        int64_t leaf = job->begin;
        for (; number < after; number++) {
            while (number >= job->place[leaf].first_unit + job->place[leaf].units)
                leaf++;
            one_unit(job, &job->leaf[leaf], &job->place[leaf], number - job->place[leaf].first_unit);
        }
    }
}

static double cosine(const double *sums, double eps)
{
    const double g = sqrt(sums[GG]), w = sqrt(sums[WW]);
    return fabs(sums[GW]) / ((g > eps ? g : eps) * (w > eps ? w : eps));
}

static void decide(const Job *job, const Leaf *x, Place *at, int32_t *view, double *norm)
{
    const Rule *rule = job->rule;
    const double(*sums)[4] = (const double(*)[4])job->sums + at->first_row;
    double total[4] = {0, 0, 0, 0};
    int by_channel = 1;
    for (int64_t row = 0; row < x->rows; row++) {
        by_channel &= cosine(sums[row], rule->eps) < rule->delta / sqrt((double)at->length); /* not so for NaN */
        for (int k = 0; k < 3; k++)
            total[k] += sums[row][k];
    }
    if (x->rows && by_channel)
        at->view = CHANNEL;
    else if (x->rows && cosine(total, rule->eps) < rule->delta / sqrt((double)x->size))
        at->view = LAYER;
    at->decay = rule->lr * rule->decay * (at->view == NONE ? 1 : rule->wd_ratio);
    *view = at->view;
    *norm = sqrt(total[WW]);
}

/* For the layer view, once <u,w> of every row is known. Returns whether anything is left to do. */
static int sum_up(const Job *job, const Leaf *x, Place *at)
{
    double uw = 0, ww = 0;
    for (int64_t row = at->first_row; row < at->first_row + x->rows; row++) {
        uw += job->sums[row][UW];
        ww += job->sums[row][WW];
    }
    at->along = share(uw, ww, job->rule->eps);
    return at->view == LAYER;
}

static void run(Job *job, int pass, int64_t elements, Parallel parallel)
{
    job->pass = pass;
    job->next = 0;
    if (parallel && job->rule->threads > 1 && elements > WORTHWHILE)
        parallel(work, job, job->rule->threads, 0);
    else
        work(job);
}

static Place place_of(const Rule *rule, const Leaf *x)
{
    Place at = {.length = x->rows ? x->size / x->rows : SPAN, .rate = rule->lr, .scale = 1};
    at.unit = at.length < SPAN ? SPAN / at.length * at.length : at.length;
    at.units = (x->size + at.unit - 1) / at.unit;
    if (rule->alias) {
        at.rate = 1;
        at.scale = rule->lr;
    }
    if (rule->is_adam) {
        const double step = *x->step += 1;
        at.rate = rule->lr / (1 - pow(rule->beta1, step));
        at.root = 1 / sqrt(1 - pow(rule->beta2, step));
    }
    return at;
}

/* view and norm: of every leaf, how it was projected, and ||w|| before the step. parallel: GOMP_parallel of the OpenMP
   library that torch has loaded, or NULL. Returns 0, or 1 if out of memory. */
int projecting_step(const Rule *rule, const Leaf *leaf, int64_t leaves, int32_t *view, double *norm, Parallel parallel)
{
    int64_t rows = 0, units = 0;
    for (int64_t i = 0; i < leaves; i++)
        rows += leaf[i].rows;
    Job job = {.rule = rule, .leaf = leaf};
    job.place = malloc(sizeof(Place) * (leaves + 1));
    job.sums = malloc(sizeof(double[4]) * (rows + 1));
    const int short_of_memory = !job.place || !job.sums;
    rows = 0;
    for (job.begin = 0; job.begin < leaves && !short_of_memory; job.begin = job.end) {
        int64_t elements = 0;
        job.units = 0;
        for (job.end = job.begin; job.end < leaves && elements < BATCH; job.end++) {
            Place at = place_of(rule, &leaf[job.end]);
            at.first_unit = units;
            at.first_row = rows;
            units += at.units;
            job.units += at.units;
            rows += leaf[job.end].rows;
            elements += leaf[job.end].size;
            job.place[job.end] = at;
        }
        run(&job, 0, elements, parallel);
        for (int64_t i = job.begin; i < job.end; i++)
            decide(&job, &leaf[i], &job.place[i], &view[i], &norm[i]);
        run(&job, 1, elements, parallel);
        int left = 0;
        for (int64_t i = job.begin; i < job.end; i++)
            left |= sum_up(&job, &leaf[i], &job.place[i]);
        if (left)
            run(&job, 2, elements, parallel);
    }
    free(job.place);
    free(job.sums);
    return short_of_memory;
}

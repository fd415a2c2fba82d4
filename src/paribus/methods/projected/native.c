/* One projecting step for many tensors on a CPU. Compiled by native.py with -DREAL=float or -DREAL=double.

   Two passes over a tensor. The first brings the states up to date and takes, of every row, <g,w>, <g,g>, <w,w> and
   <u,w>; then it is known whether to project; the second makes u again from the states (cheaper than writing it down)
   and moves the weight. The second pass goes backwards, since the end of a large tensor is still in the cache.

   The bits do not depend on the number of threads: work is cut by position only, and every sum has a fixed order. They
   do not depend on the CPU either, as long as the compiler forms no fused multiply-adds. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define SPAN 4096            /* elements of one piece of work: its u, g and w fit the first-level cache */
#define BATCH (1 << 18)      /* elements between two joins of the threads, unless one tensor has more */
#define WORTHWHILE (1 << 15) /* elements below which one thread is faster than several */
#define LANES (64 / sizeof(REAL))

typedef REAL lanes __attribute__((vector_size(64), aligned(sizeof(REAL))));

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
    int64_t spans, first_span, first_slot, first_row;
    REAL rate, root;        /* lr/(1-beta1^t), 1/sqrt(1-beta2^t); SGD: lr, unused */
    REAL scale;             /* 1; lr where rate is 1, for an aliased buffer is to be projected whatever lr is */
} Place;

typedef struct {
    const Rule *rule;
    const Leaf *leaf;
    Place *place;
    double (*slot)[4];      /* partial row sums; row r of span s (both from 0) is in slot r + s */
    REAL *factor, *along;   /* what to multiply every row of w with, to be added to w; to an aliased buffer */
    int64_t begin, end, spans, next;
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
static void changes(const Job *job, const Leaf *x, const Place *at, int64_t from, int64_t n, REAL *restrict change)
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

static void row_sums(const REAL *g, const REAL *w, const REAL *u, int64_t n, double *sums)
{
    lanes gw = {0}, gg = {0}, ww = {0}, uw = {0};
    int64_t i = 0;
    for (; i + (int64_t)LANES <= n; i += LANES) {
        const lanes x = *(const lanes *)(g + i), y = *(const lanes *)(w + i), z = *(const lanes *)(u + i);
        gw += x * y;
        gg += x * x;
        ww += y * y;
        uw += z * y;
    }
    double s[4] = {0, 0, 0, 0};
    for (unsigned l = 0; l < LANES; l++) {
        s[0] += gw[l];
        s[1] += gg[l];
        s[2] += ww[l];
        s[3] += uw[l];
    }
    for (; i < n; i++) {
        s[0] += (double)g[i] * w[i];
        s[1] += (double)g[i] * g[i];
        s[2] += (double)w[i] * w[i];
        s[3] += (double)u[i] * w[i];
    }
    for (int k = 0; k < 4; k++)
        sums[k] = s[k];
}

static void move_row(REAL *restrict w, const REAL *restrict change, REAL scale, REAL factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        w[i] += scale * change[i] + factor * w[i];
}

static void one_span(const Job *job, int64_t leaf, int64_t span)
{
    const Leaf *x = &job->leaf[leaf];
    const Place *at = &job->place[leaf];
    const int64_t from = span * SPAN, to = from + SPAN < x->size ? from + SPAN : x->size;
    const int64_t length = x->rows ? x->size / x->rows : x->size;
    REAL change[SPAN];
    if (job->pass == 0)
        update_states(job, x, from, to - from);
    if (job->pass == 0 || x->rows)
        changes(job, x, at, from, to - from, change);
    if (!x->rows) {
        if (job->pass == 0)
            move_row(x->w + from, change, at->scale, -(REAL)(job->rule->lr * job->rule->decay), to - from);
        return;
    }
    for (int64_t begin = from, row = from / length; begin < to; row++) {
        const int64_t end = (row + 1) * length < to ? (row + 1) * length : to, n = end - begin;
        if (job->pass == 0) {
            row_sums(x->g + begin, x->w + begin, change + begin - from, n, job->slot[at->first_slot + row + span]);
        } else {
            const REAL along = job->along[at->first_row + row];
            if (job->rule->alias)
                for (int64_t i = begin; i < end; i++)
                    x->a[i] += along * x->w[i];
            move_row(x->w + begin, change + begin - from, at->scale, job->factor[at->first_row + row], n);
        }
        begin = end;
    }
}

static void work(void *given)
{
    Job *job = given;
    for (;;) {
        const int64_t taken = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (taken >= job->spans)
            return;
        const int64_t number = job->place[job->begin].first_span + (job->pass ? job->spans - 1 - taken : taken);
        int64_t low = job->begin, high = job->end - 1; /* the last leaf that starts at or before this span */
        while (low < high) {
            const int64_t middle = (low + high + 1) / 2;
            if (job->place[middle].first_span <= number)
                low = middle;
            else
                high = middle - 1;
        }
        one_span(job, low, number - job->place[low].first_span);
    }
}

/* The sums of a row over its spans, which lie in slots one after the other. */
static void whole_row(const Job *job, const Leaf *x, const Place *at, int64_t row, double *sums)
{
    const int64_t length = x->size / x->rows;
    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    for (int64_t span = row * length / SPAN; span <= ((row + 1) * length - 1) / SPAN; span++)
        for (int k = 0; k < 4; k++)
            sums[k] += job->slot[at->first_slot + row + span][k];
}

static double cosine(const double *sums, double eps)
{
    const double g = sqrt(sums[1]), w = sqrt(sums[2]);
    return fabs(sums[0]) / ((g > eps ? g : eps) * (w > eps ? w : eps));
}

static void decide(Job *job, int64_t leaf, int32_t *view, double *norm)
{
    const Leaf *x = &job->leaf[leaf];
    const Place *at = &job->place[leaf];
    const Rule *rule = job->rule;
    if (!x->rows)
        return;
    const double row_limit = rule->delta / sqrt((double)(x->size / x->rows)), limit = rule->delta / sqrt((double)x->size);
    double sums[4], total[4] = {0, 0, 0, 0};
    int by_channel = 1;
    for (int64_t row = 0; row < x->rows; row++) {
        whole_row(job, x, at, row, sums);
        by_channel &= cosine(sums, rule->eps) < row_limit; /* not so for NaN */
        for (int k = 0; k < 4; k++)
            total[k] += sums[k];
    }
    const int by_layer = !by_channel && cosine(total, rule->eps) < limit;
    const double decay = rule->lr * rule->decay * (by_channel || by_layer ? rule->wd_ratio : 1);
    for (int64_t row = 0; row < x->rows; row++) {
        double along = 0; /* of a change */
        if (by_channel || by_layer) {
            if (by_channel)
                whole_row(job, x, at, row, sums);
            const double *of = by_channel ? sums : total, length = sqrt(of[2]) + rule->eps;
            along = of[3] / length / length;
        }
        job->factor[at->first_row + row] = -decay - at->scale * along;
        job->along[at->first_row + row] = along;
    }
    view[leaf] = by_channel ? 1 : by_layer ? 2 : 0;
    norm[leaf] = sqrt(total[2]);
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

/* view and norm: of every leaf, 1 or 2 if it was projected by channel or as a layer, else 0, and ||w|| before the step.
   parallel: GOMP_parallel of the OpenMP library that torch has loaded, or NULL. Returns 0, or 1 if memory is short. */
int projecting_step(const Rule *rule, const Leaf *leaf, int64_t leaves, int32_t *view, double *norm, Parallel parallel)
{
    Job job = {.rule = rule, .leaf = leaf};
    int64_t slots = 0, rows = 0, spans = 0;
    job.place = malloc(sizeof(Place) * (leaves + 1));
    if (!job.place)
        return 1;
    for (int64_t i = 0; i < leaves; i++) {
        Place *at = &job.place[i];
        *at = (Place){(leaf[i].size + SPAN - 1) / SPAN, spans, slots, rows, rule->alias ? 1 : rule->lr, 1, 1};
        at->scale = rule->alias ? rule->lr : 1;
        spans += at->spans;
        slots += leaf[i].rows ? leaf[i].rows + at->spans : 0;
        rows += leaf[i].rows;
    }
    job.slot = malloc(sizeof(double[4]) * (slots + 1));
    job.factor = malloc(sizeof(REAL) * (rows + 1));
    job.along = malloc(sizeof(REAL) * (rows + 1));
    const int short_of_memory = !job.slot || !job.factor || !job.along;
    for (job.begin = 0; job.begin < leaves && !short_of_memory; job.begin = job.end) {
        int64_t elements = 0;
        job.spans = 0;
        for (job.end = job.begin; job.end < leaves && elements < BATCH; job.end++) {
            Place *at = &job.place[job.end];
            if (rule->is_adam) {
                const double step = *leaf[job.end].step += 1;
                at->rate = rule->lr / (1 - pow(rule->beta1, step));
                at->root = 1 / sqrt(1 - pow(rule->beta2, step));
            }
            elements += leaf[job.end].size;
            job.spans += at->spans;
        }
        run(&job, 0, elements, parallel);
        for (int64_t i = job.begin; i < job.end; i++)
            decide(&job, i, view, norm);
        run(&job, 1, elements, parallel);
    }
    free(job.place);
    free(job.slot);
    free(job.factor);
    free(job.along);
    return short_of_memory;
}

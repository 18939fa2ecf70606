// What follows attention in a block, over rows, forward and backward:
//
//   y = skip + attended Wo^T + bo            f = norm_1(y)
//   u = dropout(f W1^T + b1)                 g = s + dropout(relu(u) W2^T + b2), s = y (pre-norm) or f
//   result = g, or norm_2(g) where there is a second norm
#include "rows.h"

namespace {

// Mirrored by models/kernels/rows.py.
struct Problem {
  const float *attended, *skip;  // [count, dim]
  const float *output_weight, *output_bias, *first_weight, *first_bias;  // Wo, bo; norm_1
  const float *inner_weight, *inner_bias, *outer_weight, *outer_bias;    // W1 [wide, dim], b1; W2 [dim, wide], b2
  const float *second_weight, *second_bias;                              // norm_2; null: none
  const int16_t *inner_words, *outer_words;  // random words of the dropouts, [count, wide], [count, dim]; null: none
  float *first_hat, *first_std, *hidden, *second_hat, *second_std;  // norms, u: for the backward; null: not kept
  float* result;             // [count, dim]
  const float* grad_result;  // [count, dim]; null: forward
  float *grad_attended, *grad_skip;                                 // [count, dim]
  float *grad_output_weight, *grad_output_bias, *grad_first_weight, *grad_first_bias;
  float *grad_inner_weight, *grad_inner_bias, *grad_outer_weight, *grad_outer_bias;
  float *grad_second_weight, *grad_second_bias;
  int64_t count, dim, wide;
  int64_t skip_normed;  // 1: s = f
  int64_t least;        // a word that reaches it keeps its element
  int64_t threads, bf16;
  float keep_scale;
};

template <class M>
struct Worker {
  float *a, *b, *c, *hat;  // [CHUNK, dim]
  float *wide, *hidden;    // [CHUNK, wide]
  float* inverse_std;      // [CHUNK]
  Room<M> room;
};

template <class M>
struct FeedForward {
  const Problem& q;
  Norm first, second;
  Affine<M> output, inner, outer;
  Dropout inner_drop, outer_drop;
  Worker<M>* workers = nullptr;

  explicit FeedForward(const Problem& q)
      : q(q),
        first(q.first_weight, q.first_bias, q.grad_first_weight, q.grad_first_bias, q.dim),
        second(q.second_weight, q.second_bias, q.grad_second_weight, q.grad_second_bias, q.dim),
        output(q.output_weight, q.output_bias, q.grad_output_weight, q.grad_output_bias, q.dim, q.dim),
        inner(q.inner_weight, q.inner_bias, q.grad_inner_weight, q.grad_inner_bias, q.dim, q.wide),
        outer(q.outer_weight, q.outer_bias, q.grad_outer_weight, q.grad_outer_bias, q.wide, q.dim),
        inner_drop{q.inner_words, q.least, q.keep_scale},
        outer_drop{q.outer_words, q.least, q.keep_scale} {}

  void forward(const Worker<M>& w, long start, long count) const {
    const long rows = tiled<M>(count), at = start * q.dim, size = count * q.dim, wide = start * q.wide;
    const bool kept = q.hidden;
    float* hat = kept ? q.first_hat + at : w.hat;
    output.forward(filled<M>(q.attended + at, count, q.dim, w.b), rows, w.a, w.room);
    add(q.skip + at, size, w.a);
    first.standardise(w.a, count, hat, kept ? q.first_std + start : w.inverse_std);
    first.scale(hat, count, w.b);
    clear(w.b, count, rows, q.dim);
    inner.forward(w.b, rows, w.wide, w.room);
    for (long i = 0; i < count * q.wide; i += WIDTH) {
      const Vec u = inner_drop.apply(load(w.wide + i), wide + i);
      if (kept) store(q.hidden + wide + i, u);
      store(w.wide + i, larger(u, Vec{}));
    }
    clear(w.wide, count, rows, q.wide);
    outer.forward(w.wide, rows, w.c, w.room);
    const float* skip = q.skip_normed ? w.b : w.a;
    float* to = second ? w.c : q.result + at;
    for (long i = 0; i < size; i += WIDTH) store(to + i, load(skip + i) + outer_drop.apply(load(w.c + i), at + i));
    if (!second) return;
    hat = kept ? q.second_hat + at : w.hat;
    second.standardise(w.c, count, hat, kept ? q.second_std + start : w.inverse_std);
    second.scale(hat, count, q.result + at);
  }

  void backward(const Worker<M>& w, long start, long count, int t) const {
    const long rows = tiled<M>(count), at = start * q.dim, size = count * q.dim, wide = start * q.wide;
    const float* grad = q.grad_result + at;  // of g
    if (second) {
      second.backward(grad, q.second_hat + at, q.second_std + start, count, w.a, t);
      grad = w.a;
    }
    for (long i = 0; i < size; i += WIDTH) store(w.b + i, outer_drop.apply(load(grad + i), at + i));
    clear(w.b, count, rows, q.dim);
    for (long i = 0; i < count * q.wide; i += WIDTH) store(w.hidden + i, larger(load(q.hidden + wide + i), Vec{}));
    clear(w.hidden, count, rows, q.wide);
    outer.backward(w.b, w.hidden, rows, w.wide, t, w.room);
    for (long i = 0; i < count * q.wide; i += WIDTH) {
      const Vec g = load(w.hidden + i) > 0.f ? load(w.wide + i) : Vec{};
      store(w.wide + i, inner_drop.apply(g, wide + i));
    }
    clear(w.wide, count, rows, q.wide);
    first.scale(q.first_hat + at, count, w.c);
    clear(w.c, count, rows, q.dim);
    inner.backward(w.wide, w.c, rows, w.b, t, w.room);
    if (q.skip_normed) add(grad, size, w.b);
    first.backward(w.b, q.first_hat + at, q.first_std + start, count, w.b, t);
    if (!q.skip_normed) add(grad, size, w.b);
    clear(w.b, count, rows, q.dim);
    std::copy(w.b, w.b + size, q.grad_skip + at);
    output.backward(w.b, filled<M>(q.attended + at, count, q.dim, w.c), rows, w.a, t, w.room);
    std::copy(w.a, w.a + size, q.grad_attended + at);
  }

  size_t run(char* scratch) {
    Affine<M>* const maps[] = {&output, &inner, &outer};
    Norm* const norms[] = {&first, &second};
    Arena arena{scratch};
    for (auto* map : maps) map->place(arena, q.threads);
    for (auto* norm : norms) norm->place(arena, q.threads);
    workers = arena.take<Worker<M>>(q.threads);
    for (int t = 0; t < q.threads; ++t) {
      Worker<M> w{};
      for (float** each : {&w.a, &w.b, &w.c, &w.hat}) *each = arena.take<float>(M::CHUNK * q.dim);
      for (float** each : {&w.wide, &w.hidden}) *each = arena.take<float>(M::CHUNK * q.wide);
      w.inverse_std = arena.take<float>(M::CHUNK);
      w.room.place(arena, std::max(q.dim, q.wide));
      if (scratch) workers[t] = w;
    }
    if (!scratch) return arena.used;
    auto each_sum = [&](auto f) {
      for (auto* map : maps) f(map->grad_weight), f(map->grad_bias);
      for (auto* norm : norms) f(norm->grad_weight), f(norm->grad_bias);
    };
    for (auto* map : maps) map->pack();
#pragma omp parallel num_threads(q.threads)
    {
      [[maybe_unused]] const typename M::Session session;
      each_share(q.threads, [&](int t) {
        each_sum([&](const Sums& sums) { sums.clear(t); });
        each_chunk<M>(q.count, t, q.threads, [&](long start, long count) {
          if (q.grad_result) backward(workers[t], start, count, t);
          else forward(workers[t], start, count);
        });
      });
      if (q.grad_result)
        each_share(q.threads, [&](int t) { each_sum([&](const Sums& sums) { sums.finish(t, q.threads); }); });
    }
    return arena.used;
  }
};

}  // namespace

// Returns the bytes of scratch that the call needs, 0 where this build has no such precision; computes only with
// scratch, 64-byte aligned.
extern "C" size_t feed_forward(const Problem* problem, char* scratch) {
  if (!problem->bf16) return FeedForward<Float32>(*problem).run(scratch);
#if defined(__AVX512BF16__)
  return FeedForward<Half>(*problem).run(scratch);
#else
  return 0;
#endif
}

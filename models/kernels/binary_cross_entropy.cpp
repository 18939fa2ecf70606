// Binary cross-entropy of a row's positive and its k drawn negatives, with both gradients, without gathered embeddings.
//
// loss = sum over rows n of  on_positive softplus(-h_n . e_y) + on_negative sum_j softplus(h_n . e_(negative j)).
// A row's scores stay in the first cache; embeddings are read where they lie, their gradients added where they lie.
// Rows are dealt to threads in fixed shares and the shares are added in order: same call, same threads, same bits.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "shares.h"
#include "tile.h"

namespace {

constexpr float LOG2_E = 1.44269504f;
constexpr long FACTORS = 64;  // numbers up to 2 that a float's product can hold

struct Problem {
  const float* hidden;       // [rows, dim]
  const float* table;        // [items, dim]
  const int64_t* targets;    // [rows]
  const int64_t* negatives;  // [rows, k]
  float* grad_hidden;        // [rows, dim], written
  float* grad_table;         // [items, dim], added to
  long rows, items, dim, k;
  float on_positive, on_negative;
  int threads;

  long slots() const { return round_to(k, WIDTH); }
};

struct Worker {
  float* grad_table;  // [items, dim]: the caller's for the first worker
  float* weights;     // [slots]: scores, then gradients by them
  int64_t* items;     // [slots]: a row's negatives, filled up with the target
  double loss;
  bool strays;
};

// scores[j] (+)= h . e_j over C vectors, for WIDTH items.
template <int C>
INLINE Vec dots(const float* h, const float* table, long dim, const int64_t* items) {
  Vec own[C], sums[WIDTH];
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) own[c] = load(h + c * WIDTH);
#pragma GCC unroll 16
  for (int j = 0; j < WIDTH; ++j) {
    const float* e = table + items[j] * dim;
    sums[j] = own[0] * load(e);
#pragma GCC unroll 4
    for (int c = 1; c < C; ++c) sums[j] += own[c] * load(e + c * WIDTH);
  }
  transpose(sums);
#pragma GCC unroll 4
  for (int half = WIDTH / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0];
}

// grad_h += sum_j w_j e_j and grad e_j += w_j h over C vectors.
template <int C>
INLINE void add_gradients(const Problem& q, const Worker& w, const float* h, float* grad_h, long offset) {
  Vec own[C], total[C];
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) {
    own[c] = load(h + c * WIDTH);
    total[c] = load(grad_h + c * WIDTH);
  }
  for (long j = 0; j < q.k; ++j) {
    const Vec weight = broadcast(w.weights[j]);
    const long at = w.items[j] * q.dim + offset;
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      float* grad = w.grad_table + at + c * WIDTH;
      total[c] += weight * load(q.table + at + c * WIDTH);
      store(grad, load(grad) + weight * own[c]);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) store(grad_h + c * WIDTH, total[c]);
}

// f(offset, number of vectors) for all of `dim`, at most SPAN vectors at a time.
template <int C = SPAN, class F>
INLINE void each_span(long dim, long offset, F f) {
  for (; offset + C * WIDTH <= dim; offset += C * WIDTH) f(offset, std::integral_constant<int, C>{});
  if constexpr (C > 1)
    if (offset < dim) each_span<C - 1>(dim, offset, f);
}

// Row n: its loss is added, its gradients are written and added.
INLINE void row(const Problem& q, Worker& w, long n) {
  const float* h = q.hidden + n * q.dim;
  float* grad_h = q.grad_hidden + n * q.dim;
  const int64_t* drawn = q.negatives + n * q.k;
  uint64_t highest = uint64_t(q.targets[n]);
  for (long j = 0; j < q.k; ++j) highest = std::max(highest, uint64_t(drawn[j]));
  if (highest >= uint64_t(q.items)) {
    w.strays = true;
    return;
  }
  std::copy(drawn, drawn + q.k, w.items);
  std::fill(w.items + q.k, w.items + q.slots(), q.targets[n]);

  double logs = 0, linear = 0;
  Vec product = broadcast(1.f), above = Vec{};
  for (long j = 0, factors = 0; j < q.k; j += WIDTH) {
    Vec score = Vec{};
    each_span(q.dim, 0, [&](long offset, auto c) {
      score += dots<decltype(c)::value>(h + offset, q.table + offset, q.dim, w.items + j);
    });
    const Vec size = score > 0.f ? score : -score;
    const Vec small = power_of_two(size * -LOG2_E), whole = small + 1.f;
    store(w.weights + j, (score > 0.f ? broadcast(1.f) : small) / whole * q.on_negative);
    if (j + WIDTH <= q.k) {
      product *= whole;
      above += larger(score, Vec{});
    } else {
      for (long i = 0; i < q.k - j; ++i) {
        logs += std::log(double(whole[i]));
        linear += score[i] > 0.f ? score[i] : score[i] == score[i] ? 0.f : score[i];
      }
    }
    if (++factors == FACTORS || j + WIDTH >= q.k) {
      for (int i = 0; i < WIDTH; ++i) logs += std::log(double(product[i]));
      product = broadcast(1.f);
      factors = 0;
    }
  }
  linear += sum(above);

  const float* right = q.table + q.targets[n] * q.dim;
  float* grad_right = w.grad_table + q.targets[n] * q.dim;
  float score = 0;
#pragma omp simd reduction(+ : score)
  for (long d = 0; d < q.dim; ++d) score += h[d] * right[d];
  const double small = std::exp(-std::fabs(double(score)));
  const double softplus = std::log1p(small) + (score > 0 ? 0. : -double(score));
  const float weight = -q.on_positive * float((score > 0 ? small : 1.) / (1. + small));
  for (long d = 0; d < q.dim; ++d) {
    grad_h[d] = weight * right[d];
    grad_right[d] += weight * h[d];
  }
  w.loss += double(q.on_positive) * softplus + double(q.on_negative) * (logs + linear);
  each_span(q.dim, 0, [&](long offset, auto c) {
    add_gradients<decltype(c)::value>(q, w, h + offset, grad_h + offset, offset);
  });
}

}  // namespace

// Returns the bytes of scratch that the call needs. With scratch, 64-byte aligned, writes the sum of the losses and
// grad_hidden and adds to grad_table. *strays is 1 where a target or negative is no item, else 0; such rows are left out.
extern "C" size_t binary_cross_entropy(const float* hidden, const float* table, const int64_t* targets,
                                       const int64_t* negatives, float* grad_hidden, float* grad_table, int64_t rows,
                                       int64_t items, int64_t dim, int64_t k, float on_positive, float on_negative,
                                       int threads, char* scratch, double* loss, int* strays) {
  const Problem q{hidden, table, targets, negatives,   grad_hidden, grad_table, rows,
                  items,  dim,   k,       on_positive, on_negative, threads};
  Arena arena{scratch};
  Worker* workers = arena.take<Worker>(threads);
  for (int t = 0; t < threads; ++t) {
    Worker w{};
    w.grad_table = t ? arena.take<float>(items * dim) : grad_table;
    w.weights = arena.take<float>(q.slots());
    w.items = arena.take<int64_t>(q.slots());
    if (scratch) workers[t] = w;
  }
  if (!scratch) return arena.used;

#pragma omp parallel num_threads(threads)
  {
    each_share(threads, [&](int t) {
      Worker& w = workers[t];
      if (t) std::fill(w.grad_table, w.grad_table + items * dim, 0.f);
      for (long n = rows * t / threads; n < rows * (t + 1) / threads; ++n) row(q, w, n);
    });
    each_share(threads, [&](int t) {
      for (long i = items * dim * t / threads; i < items * dim * (t + 1) / threads; ++i)
        for (int other = 1; other < threads; ++other) grad_table[i] += workers[other].grad_table[i];
    });
  }
  *loss = 0;
  *strays = 0;
  for (int t = 0; t < threads; ++t) {
    *loss += workers[t].loss;
    *strays |= workers[t].strays;
  }
  return arena.used;
}

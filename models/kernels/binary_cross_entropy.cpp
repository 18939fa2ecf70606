// Binary cross-entropy of a row's positive and its k drawn negatives, with both gradients, without gathered embeddings.
//
// loss = sum over rows n of  on_positive softplus(-h_n . e_y) + on_negative sum_j softplus(h_n . e_(negative j)).
// A row's scores stay in the first cache; embeddings are read where they lie, their gradients added where they lie.
// Several threads share the rows first, and then the items: each adds what all rows give to its own, in their order, so
// that scratch does not grow with the catalogue and the bits do not depend on the number of threads.
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
  float* all_weights = nullptr;  // [rows, 1 + k]: gradients by the scores, for several threads
};

struct Worker {
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

// grad_h += sum_j w_j e_j and, with the table, grad e_j += w_j h over C vectors.
template <int C, bool WITH_TABLE>
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
      total[c] += weight * load(q.table + at + c * WIDTH);
      if constexpr (WITH_TABLE) {
        float* grad = q.grad_table + at + c * WIDTH;
        store(grad, load(grad) + weight * own[c]);
      }
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

// grad e += w h.
INLINE void add_row(float* grad, float weight, const float* h, long dim) {
  for (long d = 0; d < dim; d += WIDTH) store(grad + d, load(grad + d) + broadcast(weight) * load(h + d));
}

// Row n: its loss is added, its gradients are written and added; without the table its weights are kept.
template <bool WITH_TABLE>
INLINE void row(const Problem& q, Worker& w, long n) {
  const float* h = q.hidden + n * q.dim;
  float* grad_h = q.grad_hidden + n * q.dim;
  const int64_t* drawn = q.negatives + n * q.k;
  uint64_t highest = uint64_t(q.targets[n]);
  for (long j = 0; j < q.k; ++j) highest = std::max(highest, uint64_t(drawn[j]));
  float* kept = WITH_TABLE ? nullptr : q.all_weights + n * (1 + q.k);
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
  float score = 0;
#pragma omp simd reduction(+ : score)
  for (long d = 0; d < q.dim; ++d) score += h[d] * right[d];
  const double small = std::exp(-std::fabs(double(score)));
  const double softplus = std::log1p(small) + (score > 0 ? 0. : -double(score));
  const float weight = -q.on_positive * float((score > 0 ? small : 1.) / (1. + small));
  for (long d = 0; d < q.dim; ++d) grad_h[d] = weight * right[d];
  if (WITH_TABLE) {
    add_row(q.grad_table + q.targets[n] * q.dim, weight, h, q.dim);
  } else {
    kept[0] = weight;
    std::copy(w.weights, w.weights + q.k, kept + 1);
  }
  w.loss += double(q.on_positive) * softplus + double(q.on_negative) * (logs + linear);
  each_span(q.dim, 0, [&](long offset, auto c) {
    add_gradients<decltype(c)::value, WITH_TABLE>(q, w, h + offset, grad_h + offset, offset);
  });
}

// What all rows give to the items from..to.
INLINE void add_items(const Problem& q, long from, long to) {
  for (long n = 0; n < q.rows; ++n) {
    const float *h = q.hidden + n * q.dim, *weights = q.all_weights + n * (1 + q.k);
    const int64_t* drawn = q.negatives + n * q.k;
    if (q.targets[n] >= from && q.targets[n] < to)
      add_row(q.grad_table + q.targets[n] * q.dim, weights[0], h, q.dim);
    for (long j = 0; j < q.k; ++j)
      if (drawn[j] >= from && drawn[j] < to) add_row(q.grad_table + drawn[j] * q.dim, weights[1 + j], h, q.dim);
  }
}

}  // namespace

// Returns the bytes of scratch that the call needs. With scratch, 64-byte aligned, writes the sum of the losses and
// grad_hidden and adds to grad_table. *strays is 1 where a target or negative is no item, else 0; such rows are left out.
extern "C" size_t binary_cross_entropy(const float* hidden, const float* table, const int64_t* targets,
                                       const int64_t* negatives, float* grad_hidden, float* grad_table, int64_t rows,
                                       int64_t items, int64_t dim, int64_t k, float on_positive, float on_negative,
                                       int threads, char* scratch, double* loss, int* strays) {
  Problem q{hidden, table, targets, negatives,   grad_hidden, grad_table, rows,
            items,  dim,   k,       on_positive, on_negative, threads};
  Arena arena{scratch};
  Worker* workers = arena.take<Worker>(threads);
  if (threads > 1) q.all_weights = arena.take<float>(rows * (1 + k));
  for (int t = 0; t < threads; ++t) {
    Worker w{};
    w.weights = arena.take<float>(q.slots());
    w.items = arena.take<int64_t>(q.slots());
    if (scratch) workers[t] = w;
  }
  if (!scratch) return arena.used;

  if (threads == 1) {
    for (long n = 0; n < rows; ++n) row<true>(q, workers[0], n);
  } else {
#pragma omp parallel num_threads(threads)
    {
      each_share(threads, [&](int t) {
        for (long n = rows * t / threads; n < rows * (t + 1) / threads; ++n) row<false>(q, workers[t], n);
      });
      bool strays_found = false;
      for (int t = 0; t < threads; ++t) strays_found |= workers[t].strays;
      if (!strays_found)
        each_share(threads, [&](int t) { add_items(q, items * t / threads, items * (t + 1) / threads); });
    }
  }
  *loss = 0;
  *strays = 0;
  for (int t = 0; t < threads; ++t) {
    *loss += workers[t].loss;
    *strays |= workers[t].strays;
  }
  return arena.used;
}

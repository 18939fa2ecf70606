// A layer norm (or none) and an affine map behind it, over rows of x, forward and backward.
#include "rows.h"

namespace {

// Mirrored by models/kernels/rows.py.
struct Problem {
  const float* x;                          // [., dim]
  const int64_t* rows;                     // [count] which rows of x; null: the first `count`
  const float *norm_weight, *norm_bias;    // [dim]; null: no norm
  const float *weight, *bias;              // [out, dim], [out]
  float* normed;                           // [count, dim]: what the map is applied to; null: not wanted
  float *hat, *inverse_std;                // [count, dim], [count]: for the backward; null: not kept
  float* product;                          // [lead + count, out]
  const float* grad_product;               // [lead + count, out]; null: forward
  const float* grad_normed;                // [count, dim]; null: none
  float* grad_x;                           // like x
  float *grad_norm_weight, *grad_norm_bias, *grad_weight, *grad_bias;
  int64_t count, dim, out;
  int64_t lead;  // 1: the product begins with a row for a zero row of x (without norm: of zeros)
  int64_t threads, bf16;
};

template <class M>
struct Worker {
  float *x, *y, *grad, *hat, *inverse_std;
  Room<M> room;
};

template <class M>
struct NormLinear {
  const Problem& q;
  Norm norm;
  Affine<M> map;
  Worker<M>* workers = nullptr;

  explicit NormLinear(const Problem& q)
      : q(q),
        norm(q.norm_weight, q.norm_bias, q.grad_norm_weight, q.grad_norm_bias, q.dim),
        map(q.weight, q.bias, q.grad_weight, q.grad_bias, q.dim, q.out) {}

  const float* row(long i) const { return q.x + (q.rows ? q.rows[i] : i) * q.dim; }

  // What the map is applied to, as a chunk in w.x.
  void load_chunk(const Worker<M>& w, long first, long count) const {
    if (norm && q.grad_product) norm.scale(q.hat + first * q.dim, count, w.x);
    else
      for (long i = 0; i < count; ++i) std::copy(row(first + i), row(first + i) + q.dim, w.x + i * q.dim);
    if (norm && !q.grad_product) {
      float* hat = q.hat ? q.hat + first * q.dim : w.hat;
      norm.standardise(w.x, count, hat, q.hat ? q.inverse_std + first : w.inverse_std);
      norm.scale(hat, count, w.x);
    }
    clear(w.x, count, tiled<M>(count), q.dim);
  }

  void load_lead(const Worker<M>& w) const {
    clear(w.x, 0, tiled<M>(1), q.dim);
    if (norm) std::copy(norm.bias, norm.bias + q.dim, w.x);
  }

  void apply(const Worker<M>& w, long count, float* to) const {
    const bool whole = count == tiled<M>(count);
    map.forward(w.x, tiled<M>(count), whole ? to : w.y, w.room);
    if (!whole) std::copy(w.y, w.y + count * q.out, to);
  }

  void backward(const Worker<M>& w, long first, long count, int t) const {
    load_chunk(w, first, count);
    const float* dy = filled<M>(q.grad_product + (q.lead + first) * q.out, count, q.out, w.y);
    map.backward(dy, w.x, tiled<M>(count), w.grad, t, w.room);
    if (q.grad_normed) add(q.grad_normed + first * q.dim, count * q.dim, w.grad);
    if (norm) norm.backward(w.grad, q.hat + first * q.dim, q.inverse_std + first, count, w.grad, t);
    for (long i = 0; i < count; ++i)
      std::copy(w.grad + i * q.dim, w.grad + (i + 1) * q.dim, q.grad_x + (row(first + i) - q.x));
  }

  void share(int t) const {
    const Worker<M>& w = workers[t];
    if (!q.grad_product) {
      if (q.lead && t == 0) {
        load_lead(w);
        apply(w, 1, q.product);
      }
      each_chunk<M>(q.count, t, q.threads, [&](long first, long count) {
        load_chunk(w, first, count);
        if (q.normed) std::copy(w.x, w.x + count * q.dim, q.normed + first * q.dim);
        apply(w, count, q.product + (q.lead + first) * q.out);
      });
      return;
    }
    for (const Sums* sums : {&map.grad_weight, &map.grad_bias, &norm.grad_weight, &norm.grad_bias}) sums->clear(t);
    if (q.lead && t == 0) {
      load_lead(w);
      map.backward(filled<M>(q.grad_product, 1, q.out, w.y), w.x, tiled<M>(1), w.grad, t, w.room);
      if (norm) add(w.grad, q.dim, norm.grad_bias.of(t));
    }
    each_chunk<M>(q.count, t, q.threads, [&](long first, long count) { backward(w, first, count, t); });
  }

  size_t run(char* scratch) {
    Arena arena{scratch};
    map.place(arena, q.threads);
    norm.place(arena, q.threads);
    workers = arena.take<Worker<M>>(q.threads);
    for (int t = 0; t < q.threads; ++t) {
      Worker<M> w{};
      w.x = arena.take<float>(M::CHUNK * q.dim);
      w.y = arena.take<float>(M::CHUNK * q.out);
      w.grad = arena.take<float>(M::CHUNK * q.dim);
      w.hat = arena.take<float>(M::CHUNK * q.dim);
      w.inverse_std = arena.take<float>(M::CHUNK);
      w.room.place(arena, std::max(q.dim, q.out));
      if (scratch) workers[t] = w;
    }
    if (!scratch) return arena.used;
    map.pack();
#pragma omp parallel num_threads(q.threads)
    {
      [[maybe_unused]] const typename M::Session session;
      each_share(q.threads, [&](int t) { share(t); });
      if (q.grad_product)
        each_share(q.threads, [&](int t) {
          for (const Sums* sums : {&map.grad_weight, &map.grad_bias, &norm.grad_weight, &norm.grad_bias})
            sums->finish(t, q.threads);
        });
    }
    return arena.used;
  }
};

}  // namespace

// Returns the bytes of scratch that the call needs, 0 where this build has no such precision; computes only with
// scratch, 64-byte aligned.
extern "C" size_t norm_linear(const Problem* problem, char* scratch) {
  if (!problem->bf16) return NormLinear<Float32>(*problem).run(scratch);
#if defined(__AVX512BF16__)
  return NormLinear<Half>(*problem).run(scratch);
#else
  return 0;
#endif
}

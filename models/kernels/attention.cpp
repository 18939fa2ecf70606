// Causal attention over sequences that lie end to end, forward and backward.
//
// A sequence of l tokens has l+1 keys: key 0 stands for all padded positions in front of it and is shared by all
// sequences; its logit gets log(number of padded positions). Query i of the n last tokens sees the keys 0..l-n+i+1.
// Logits are made in blocks of queries, only as wide as the last of them sees, and made again in the backward.
// Every thread has fixed sequences: the same call on the same number of threads gives the same bits.
#include <algorithm>
#include <cmath>

#include "shares.h"
#include "tile.h"

namespace {

constexpr float LOG2_E = 1.44269504f;
constexpr float LOWEST = -3e38f;
constexpr int BLOCK = ROWS;  // queries at a time

// Mirrored by models/kernels/attention.py.
struct Problem {
  const float* queries;    // [rows, dim]
  const float* key_value;  // [1 + tokens, 2 dim]: the padded key, then the tokens
  float* out;              // [rows, dim]
  float* log_sum;          // [rows, heads]: log2 of the sum of exponentials
  const float* grad_out;   // [rows, dim]; null: forward
  float* grad_queries;     // [rows, dim]
  float* grad_key_value;   // [1 + tokens, 2 dim]
  const int64_t* first;    // [sequences]: first token
  const int64_t* length;   // [sequences]
  const float* padded;     // [sequences]: padded positions; null: the padded key is masked
  // Dropout; null: none. With Q = keep_row[s] - 1 (1 with last_only), keep[s][(head * Q + i) * keep_row[s] + key] is a
  // random word that reaches `least` where sequence s keeps a weight (words behind the last one may be read), and
  // keep_padded[s][head * Q + i] is the factor of the padded key's weight.
  const int16_t* const* keep;
  const int64_t* keep_row;
  const float* const* keep_padded;
  int64_t sequences, dim, heads, longest;
  int64_t last_only;  // one query for the last token of each sequence; else one for every token
  int64_t threads, least;
  float keep_scale;  // factor of the other weights that are kept
};

// One head of one sequence.
struct Head {
  const Problem& q;
  long dim, stride;   // of the head; between rows of keys and values
  long keys, spread;  // l + 1; rounded up to vectors
  long queries;       // n
  long row;           // its first row of queries
  const float *own, *pad_key, *key;  // its queries; the padded key; key j >= 1 at key + j * stride
  float pad_bias;                    // log2 of the padded positions
  const int16_t* keep = nullptr;
  long keep_row = 0;
  const float* keep_padded = nullptr;

  Head(const Problem& problem, long s, long head) : q(problem) {
    dim = q.dim / q.heads;
    stride = 2 * q.dim;
    keys = q.length[s] + 1;
    spread = round_to(keys, WIDTH);
    queries = q.last_only ? 1 : q.length[s];
    row = q.last_only ? s : q.first[s];
    own = q.queries + row * q.dim + head * dim;
    pad_key = q.key_value + head * dim;
    key = pad_key + q.first[s] * stride;
    const float padded = q.padded ? q.padded[s] : 0.f;
    pad_bias = padded > 0 ? std::log2(padded) : LOWEST;
    if (!q.keep) return;
    const long kept_queries = q.last_only ? 1 : q.keep_row[s] - 1;
    keep_row = q.keep_row[s];
    keep = q.keep[s] + head * kept_queries * keep_row;
    keep_padded = q.keep_padded[s] + head * kept_queries;
  }

  const float* key_row(long j) const { return j ? key + j * stride : pad_key; }
  long seen(long i) const { return keys - queries + i; }  // last key that query i sees

  // Keys (offset 0) or values (offset q.dim) as [dim, spread], zeros beyond the last key.
  void turn(long offset, float* to) const {
    for (long j = 0; j < spread; j += WIDTH)
      for (long k = 0; k < dim; k += WIDTH) {
        Vec t[WIDTH];
        for (int r = 0; r < WIDTH; ++r) t[r] = j + r < keys ? load(key_row(j + r) + offset + k) : Vec{};
        transpose(t);
        for (int r = 0; r < WIDTH; ++r) store(to + (k + r) * spread + j, t[r]);
      }
  }
};

// rows (BLOCK from `first`, `step` apart, those beyond `count` zero) x turned[dim, spread] -> out[BLOCK, spread].
void block_product(const float* rows, long step, long count, const float* turned, const Head& h, long columns,
                   float* copy, float* out) {
  if (count < BLOCK) {
    std::fill(copy, copy + BLOCK * h.dim, 0.f);
    for (long i = 0; i < count; ++i) std::copy(rows + i * step, rows + i * step + h.dim, copy + i * h.dim);
    rows = copy;
    step = h.dim;
  }
  product<Float32, BLOCK, COLUMNS>(out, h.spread, columns, false, rows, step, 1, turned, h.spread, h.dim);
}

INLINE Vec places(long from) {  // from, from + 1, ...
  Vec v;
  for (int i = 0; i < WIDTH; ++i) v[i] = float(i);
  return v + float(from);
}

// Factors of the weights of query i from key j on.
INLINE Vec kept(const Head& h, long i, long j) {
  Vec factor = kept_words(h.keep + i * h.keep_row + j, h.q.least, h.q.keep_scale);
  if (j == 0) factor[0] = h.keep_padded[i];
  return factor;
}

// Logits of query i in units of ln 2, LOWEST where it may not look.
INLINE Vec visible(const Head& h, const float* products, float scale, long i, long j) {
  Vec x = load(products + j) * scale;
  if (j == 0) x[0] += h.pad_bias;
  return places(j) <= float(h.seen(i)) ? larger(x, broadcast(LOWEST)) : broadcast(LOWEST);
}

struct Worker {
  float *keys, *values;     // [dim, spread]
  float *weights, *grads;   // [queries, spread]: after dropout; of the products q . k
  float *copy, *tile;       // [BLOCK, dim]
  float* grad_pad;          // [2 dim]
};

// Weights times values, or gradients of products times keys, for up to BLOCK queries.
void mix(const Head& h, const float* weights, long count, long last, long offset, float* tile, float* out) {
  for (int i = 0; i < BLOCK; i += GRADIENT_ROWS) {
    for (int r = i; r < i + GRADIENT_ROWS; ++r)
      for (long k = 0; k < h.dim; k += WIDTH)
        store(tile + r * h.dim + k, load(h.pad_key + offset + k) * weights[r * h.spread]);
    product<Float32, GRADIENT_ROWS>(tile + i * h.dim, h.dim, h.dim, true, weights + i * h.spread + 1, h.spread, 1,
                                    h.key + h.stride + offset, h.stride, last);
  }
  for (long i = 0; i < count; ++i) std::copy(tile + i * h.dim, tile + (i + 1) * h.dim, out + i * h.q.dim);
}

void forward(const Head& h, long head, const Worker& w) {
  const Problem& q = h.q;
  const float scale = LOG2_E / std::sqrt(float(h.dim));
  h.turn(0, w.keys);
  for (long first = 0; first < h.queries; first += BLOCK) {
    const long count = std::min<long>(BLOCK, h.queries - first), last = h.seen(first + count - 1);
    const long columns = round_to(last + 1, WIDTH);
    block_product(h.own + first * q.dim, q.dim, count, w.keys, h, columns, w.copy, w.weights);
    for (long r = 0; r < count; ++r) {
      const long i = first + r;
      float* row = w.weights + r * h.spread;
      Vec top = broadcast(LOWEST), total{};
      for (long j = 0; j < columns; j += WIDTH) top = larger(top, visible(h, row, scale, i, j));
      const float most = largest(top);
      for (long j = 0; j < columns; j += WIDTH) {
        const Vec x = visible(h, row, scale, i, j);
        const Vec p = x <= LOWEST ? Vec{} : power_of_two(x - most);  // a NaN stays
        total += p;
        store(row + j, h.keep ? p * kept(h, i, j) : p);
      }
      const float z = sum(total), inverse = 1.f / z;
      for (long j = 0; j < columns; j += WIDTH) store(row + j, load(row + j) * inverse);
      q.log_sum[(h.row + i) * q.heads + head] = most + std::log2(z);
    }
    mix(h, w.weights, count, last, q.dim, w.tile, q.out + (h.row + first) * q.dim + head * h.dim);
  }
}

void backward(const Head& h, long head, const Worker& w) {
  const Problem& q = h.q;
  const float scale = 1.f / std::sqrt(float(h.dim));
  const float* grad_out = q.grad_out + h.row * q.dim + head * h.dim;
  h.turn(0, w.keys);
  h.turn(q.dim, w.values);
  for (long first = 0; first < h.queries; first += BLOCK) {
    const long count = std::min<long>(BLOCK, h.queries - first), last = h.seen(first + count - 1);
    const long columns = round_to(last + 1, WIDTH);
    float *weights = w.weights + first * h.spread, *grads = w.grads + first * h.spread;
    block_product(h.own + first * q.dim, q.dim, count, w.keys, h, columns, w.copy, weights);
    block_product(grad_out + first * q.dim, q.dim, count, w.values, h, columns, w.copy, grads);
    for (long r = 0; r < count; ++r) {
      const long i = first + r;
      const float log_sum = q.log_sum[(h.row + i) * q.heads + head];
      float *row = weights + r * h.spread, *grad = grads + r * h.spread;
      Vec dot{};
      for (long j = 0; j < columns; j += WIDTH) {
        const Vec x = visible(h, row, scale * LOG2_E, i, j);
        const Vec p = x <= LOWEST ? Vec{} : power_of_two(x - log_sum);
        const Vec factor = h.keep ? kept(h, i, j) : broadcast(1.f);
        dot += p * factor * load(grad + j);
        store(row + j, p);
      }
      const float mean = sum(dot);
      for (long j = 0; j < columns; j += WIDTH) {
        const Vec p = load(row + j), factor = h.keep ? kept(h, i, j) : broadcast(1.f);
        store(grad + j, p * (load(grad + j) * factor - mean) * scale);
        store(row + j, p * factor);
      }
      std::fill(row + columns, row + h.spread, 0.f);
      std::fill(grad + columns, grad + h.spread, 0.f);
    }
    mix(h, grads, count, last, 0, w.tile, q.grad_queries + (h.row + first) * q.dim + head * h.dim);
  }
  // Gradients of keys and values: the transposed products; key j is seen by the queries from j - seen(0) on.
  for (long j = 0; j < h.keys; j += GRADIENT_ROWS) {
    const long from = std::max(0L, j - h.seen(0)), depth = h.queries - from;
    const long count = std::min<long>(GRADIENT_ROWS, h.keys - j);
    for (int value = 0; value < 2; ++value) {
      const float* a = (value ? w.weights : w.grads) + from * h.spread + j;
      const float* b = (value ? grad_out : h.own) + from * q.dim;
      product<Float32, GRADIENT_ROWS>(w.tile, h.dim, h.dim, false, a, 1, h.spread, b, q.dim, depth);
      const long at = value * q.dim + head * h.dim;
      for (long r = 0; r < count; ++r) {
        const float* grad = w.tile + r * h.dim;
        float* key = q.grad_key_value + (h.key - h.pad_key) + (j + r) * h.stride + at;
        if (j + r > 0) std::copy(grad, grad + h.dim, key);
        else
          for (long k = 0; k < h.dim; ++k) w.grad_pad[at + k] += grad[k];
      }
    }
  }
}

size_t run(const Problem& q, char* scratch) {
  const long dim = q.dim / q.heads, spread = round_to(q.longest + 1, WIDTH);
  const long queries = round_to(q.last_only ? 1 : q.longest, BLOCK);
  Arena arena{scratch};
  Worker* workers = arena.take<Worker>(q.threads);
  for (int t = 0; t < q.threads; ++t) {
    Worker w;
    w.keys = arena.take<float>(dim * spread);
    w.values = arena.take<float>(dim * spread);
    w.weights = arena.take<float>(queries * spread);
    w.grads = arena.take<float>(queries * spread);
    w.copy = arena.take<float>(BLOCK * dim);
    w.tile = arena.take<float>(BLOCK * dim);
    w.grad_pad = arena.take<float>(2 * q.dim);
    if (scratch) workers[t] = w;
  }
  if (!scratch) return arena.used;
#pragma omp parallel num_threads(q.threads)
  each_share(q.threads, [&](int t) {
    std::fill(workers[t].grad_pad, workers[t].grad_pad + 2 * q.dim, 0.f);
    for (long s = t; s < q.sequences; s += q.threads)
      for (long head = 0; head < q.heads; ++head) {
        const Head h(q, s, head);
        if (q.grad_out) backward(h, head, workers[t]);
        else forward(h, head, workers[t]);
      }
  });
  if (q.grad_out)
    for (long k = 0; k < 2 * q.dim; ++k) {
      q.grad_key_value[k] = 0;
      for (int t = 0; t < q.threads; ++t) q.grad_key_value[k] += workers[t].grad_pad[k];
    }
  return arena.used;
}

}  // namespace

// Returns the bytes of scratch that the call needs; computes only with scratch, 64-byte aligned.
extern "C" size_t attention(const Problem* problem, char* scratch) { return run(*problem, scratch); }

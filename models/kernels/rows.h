// Steps of the encoder over a chunk of rows that stays in the cache: affine maps, layer norm, dropout.
//
// A chunk is [rows, width] floats with `rows` rounded up to whole tiles; what fills it up is zero wherever a sum over
// rows is taken. Every thread has fixed chunks and its own sums of weight gradients, added in the order of the threads.
#pragma once
#include <algorithm>
#include <cmath>

#include "amx.h"
#include "shares.h"
#include "tile.h"

constexpr float EPS = 1e-8f;  // of layer norms; models/kernels/rows.py has the same
template <class M>
long tiled(long rows) {
  static_assert(M::CHUNK % M::CHUNK_STEP == 0 && M::CHUNK_STEP % M::PACK == 0);
  return round_to(rows, M::CHUNK_STEP);
}

// f(first, count) for the chunks of share t of `rows` rows.
template <class M, class F>
void each_chunk(long rows, int t, int threads, F f) {
  const long chunks = ceil_div(rows, M::CHUNK);
  for (long c = chunks * t / threads; c < chunks * (t + 1) / threads; ++c)
    f(c * M::CHUNK, std::min(M::CHUNK, rows - c * M::CHUNK));
}

inline void clear(float* x, long from, long to, long width) { std::fill(x + from * width, x + to * width, 0.f); }

// `count` rows of x as a chunk: x itself where it has whole tiles, else a copy in `room`.
template <class M>
const float* filled(const float* x, long count, long width, float* room) {
  if (count == tiled<M>(count)) return x;
  std::copy(x, x + count * width, room);
  clear(room, count, tiled<M>(count), width);
  return room;
}

// to[:n] += from[:n]; n is a multiple of WIDTH.
inline void add(const float* from, long n, float* to) {
  for (long i = 0; i < n; i += WIDTH) store(to + i, load(to + i) + load(from + i));
}

inline void add_columns(const float* x, long rows, long width, float* to) {
  for (long d = 0; d < width; d += WIDTH) {
    Vec total = load(to + d);
    for (long r = 0; r < rows; ++r) total += load(x + r * width + d);
    store(to + d, total);
  }
}

// Sums of gradients of one parameter: one per thread, [size] each.
struct Sums {
  float* out;  // null: no gradient is wanted in this call
  long size;
  float* each = nullptr;

  void place(Arena& arena, int threads) {
    if (out) each = arena.take<float>(threads * round_to(size, WIDTH));
  }
  float* of(int t) const { return each + t * round_to(size, WIDTH); }
  void clear(int t) const {
    if (out) std::fill(of(t), of(t) + size, 0.f);
  }
  void finish(int t, int threads) const {  // share t of the total
    if (!out) return;
    for (long i = size * t / threads; i < size * (t + 1) / threads; ++i) {
      out[i] = of(0)[i];
      for (int k = 1; k < threads; ++k) out[i] += of(k)[i];
    }
  }
};

// Operands of one thread's products, for chunks up to `width` wide.
template <class M>
struct Room {
  typename M::Element *across, *along[2];

  void place(Arena& arena, long width) {
    if (M::PACK == 1) return;
    across = arena.take<typename M::Element>(M::CHUNK * width / M::PACK);
    for (auto& each : along) each = arena.take<typename M::Element>(M::CHUNK * width / M::PACK);
  }
};

template <class M>
const typename M::Element* across(const float* x, long rows, long width, typename M::Element* room) {
  if constexpr (M::PACK == 1) return x;
  else {
    for (long i = 0; i < rows * width; i += WIDTH * M::PACK) M::across(x + i, room + i / M::PACK);
    return room;
  }
}

template <class M>
const typename M::Element* along(const float* x, long rows, long width, typename M::Element* room) {
  if constexpr (M::PACK == 1) return x;
  else {
    for (long r = 0; r < rows; r += M::PACK)
      for (long d = 0; d < width; d += WIDTH) M::along(x + r * width + d, width, room + r / M::PACK * width + d);
    return room;
  }
}

// out[rows, columns] = start (null: zeros; rows `start_row` floats apart) + a[rows, depth] b[depth, columns].
template <class M, int C = SPAN>
void times(float* out, const float* start, long start_row, const typename M::Element* a, const typename M::Element* b,
           long rows, long depth, long columns, long from = 0) {
  if constexpr (M::TILES)
    for (long r = 0; r < rows; r += M::CHUNK_STEP)
      M::product(out + r * columns, columns, columns, start ? start + r * start_row : nullptr, start_row, a + r * depth,
                 depth, b, columns, depth);
  else {
    long c = from;
    for (; c + C * WIDTH <= columns; c += C * WIDTH)
      for (long r = 0; r < rows; r += ITEM_ROWS)
        product_tile<M, ITEM_ROWS, C>(out + r * columns + c, columns, start ? start + r * start_row + c : nullptr,
                                      start_row, a + r * depth, depth, 1, b + c, columns, depth);
    if constexpr (C > 1)
      if (c < columns) times<M, C - 1>(out, start, start_row, a, b, rows, depth, columns, c);
  }
}

// y = x W^T + b. Widths are multiples of WIDTH * PACK.
template <class M>
struct Affine {
  typedef typename M::Element Element;
  const float *weight, *bias;  // [out, in], [out]
  long in, out;
  Sums grad_weight, grad_bias;
  Element* turned = nullptr;  // [in/PACK, out]
  const Element* straight = nullptr;  // [out/PACK, in]
  Element* room = nullptr;

  Affine(const float* weight, const float* bias, float* grad_weight, float* grad_bias, long in, long out)
      : weight(weight), bias(bias), in(in), out(out), grad_weight{grad_weight, in * out}, grad_bias{grad_bias, out} {}

  void place(Arena& arena, int threads) {
    if (!grad_weight.out) turned = arena.take<Element>(in / M::PACK * out);
    else if (M::PACK > 1) room = arena.take<Element>(out / M::PACK * in);
    grad_weight.place(arena, threads);
    grad_bias.place(arena, threads);
  }

  void pack() {
    if (grad_weight.out) straight = along<M>(weight, out, in, room);
    else
      for (long o = 0; o < out; o += WIDTH)
        for (long k = 0; k < in / M::PACK; k += WIDTH) {
          Vec t[WIDTH];
          for (int r = 0; r < WIDTH; ++r)
            M::across(weight + (o + r) * in + k * M::PACK, reinterpret_cast<Element*>(t + r));
          transpose(t);
          for (int r = 0; r < WIDTH; ++r) store(reinterpret_cast<float*>(turned + (k + r) * out + o), t[r]);
        }
  }

  void forward(const float* x, long rows, float* y, const Room<M>& room) const {
    times<M>(y, bias, 0, across<M>(x, rows, in, room.across), turned, rows, in / M::PACK, out);
  }

  // Gradients of x (null: not wanted), weight and bias; what fills up dy is zero.
  void backward(const float* dy, const float* x, long rows, float* dx, int t, const Room<M>& room) const {
    if (dx) times<M>(dx, nullptr, 0, across<M>(dy, rows, out, room.across), straight, rows, out / M::PACK, in);
    float* sum = grad_weight.of(t);
    const Element* b = along<M>(x, rows, in, room.along[1]);
    if constexpr (M::TILES) {
      Element* a = room.along[0];  // [out, rows / 2]
      const long pairs = rows / 2;
      for (long o = 0; o < out; o += WIDTH)
        for (long r = 0; r < rows; r += 32) M::turn_pairs(dy + r * out + o, out, nullptr, a + o * pairs + r / 2, pairs);
      for (long o = 0; o < out; o += M::GROUP)
        M::product(sum + o * in, in, in, sum + o * in, in, a + o * pairs, pairs, b, in, pairs);
    } else {
      const Element* a = along<M>(dy, rows, out, room.along[0]);
      for (long o = 0; o < out; o += GRADIENT_ROWS)
        product<M, GRADIENT_ROWS>(sum + o * in, in, in, true, a + o, 1, out, b, in, rows / M::PACK);
    }
    add_columns(dy, rows, out, grad_bias.of(t));
  }
};

// y = hat * weight + bias with hat = (x - mean) / std over a row.
struct Norm {
  const float *weight, *bias;  // [width]; null: there is no norm
  long width;
  Sums grad_weight, grad_bias;

  Norm(const float* weight, const float* bias, float* grad_weight, float* grad_bias, long width)
      : weight(weight), bias(bias), width(width), grad_weight{grad_weight, width}, grad_bias{grad_bias, width} {}

  explicit operator bool() const { return weight; }
  void place(Arena& arena, int threads) {
    grad_weight.place(arena, threads);
    grad_bias.place(arena, threads);
  }

  void standardise(const float* x, long rows, float* hat, float* inverse_std) const {
    for (long r = 0; r < rows; ++r, x += width, hat += width) {
      Vec total{}, squares{};
      for (long d = 0; d < width; d += WIDTH) total += load(x + d);
      const float mean = sum(total) / width;
      for (long d = 0; d < width; d += WIDTH) {
        const Vec centred = load(x + d) - mean;
        squares += centred * centred;
        store(hat + d, centred);
      }
      inverse_std[r] = 1.f / std::sqrt(sum(squares) / width + EPS);
      for (long d = 0; d < width; d += WIDTH) store(hat + d, load(hat + d) * inverse_std[r]);
    }
  }

  void scale(const float* hat, long rows, float* y) const {
    for (long r = 0; r < rows; ++r)
      for (long d = 0; d < width; d += WIDTH)
        store(y + r * width + d, load(hat + r * width + d) * load(weight + d) + load(bias + d));
  }

  // dx from dy, in place where they are the same.
  void backward(const float* dy, const float* hat, const float* inverse_std, long rows, float* dx, int t) const {
    float *sum_weight = grad_weight.of(t), *sum_bias = grad_bias.of(t);
    for (long r = 0; r < rows; ++r, dy += width, hat += width, dx += width) {
      Vec total{}, dot{};
      for (long d = 0; d < width; d += WIDTH) {
        const Vec g = load(dy + d), h = load(hat + d), by_hat = g * load(weight + d);
        total += by_hat;
        dot += by_hat * h;
        store(sum_weight + d, load(sum_weight + d) + g * h);
        store(sum_bias + d, load(sum_bias + d) + g);
      }
      const float mean = sum(total) / width, slope = sum(dot) / width;
      for (long d = 0; d < width; d += WIDTH)
        store(dx + d, (load(dy + d) * load(weight + d) - mean - load(hat + d) * slope) * inverse_std[r]);
    }
  }
};

// Factors of elements under dropout: `scale` where a random word reaches `least`, else 0.
struct Dropout {
  const int16_t* words;  // one for each element; null: no dropout
  int64_t least;
  float scale;

  INLINE Vec apply(Vec x, long i) const { return words ? x * kept_words(words + i, least, scale) : x; }
};

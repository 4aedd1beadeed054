// State-space dual scan, backward. With g the gradient before the gate, L the gradient of the state and X = d x:
//
//   y[t]  = S[t] C[t],   dC[t] = sum over heads of S[t]^T g[t]                         forward in time
//   L[t]  = g[t] C[t]^T + a[t+1] L[t+1],  dX[t] = L[t] B[t],  dB[t] = sum of L[t]^T X[t]   backward in time
//
// Both are the pair of products that outer_product_scan computes, so neither S nor L is ever stored. Chunks go last to
// first; S is repeated within a chunk from the state that the forward pass kept.
//
// The gradient of log a is e[t] = <L[t], a[t] S[t-1]> = e[t+1] + <g[t], y[t]> - <dX[t], X[t]>. Both products contain
// <g[t], X[t]> <B[t], C[t]>, which can be much larger than their difference; so the scans leave that term out, and it
// is added to y and dX only. The recursion still cancels over long sequences, and what is lost stays lost for all
// earlier steps; so it restarts every few steps from the scalar product of the two matrices.
#pragma once

#include <limits>

#include "ssd.h"

namespace scan {

// Gradients as Python passes them; dense. Those of B and C come in one part a slice, those of A, D, dt_bias in one part
// a batch; the caller adds the parts.
struct SsdGradients {
  const void* out;                  // (batch, length, heads, width)
  int64_t out_batch, out_time, out_head;
  const real* last_state;           // (batch, heads, width, states), or null
  void *x, *z;                      // (batch, length, heads, width)
  real *dt, *A, *D, *dt_bias;       // (batch, length, heads) (batch, heads) (batch, heads, width) (batch, heads)
  real *B, *C;                      // (slices, batch, length, groups, states), zero on entry
  real* initial_state;              // (batch, heads, width, states), or null
};

constexpr int kRestart = 16;
// A decay that leaves nothing of the state: its gradient is zero, not the rounding error of the steps behind it.
constexpr real kForgets = std::numeric_limits<real>::epsilon() / 2;
static_assert(kChunk % kRestart == 0);

struct SsdBackwardSpace {
  real *step, *slope, *decay, *gy, *bc;     // a number a step: <g, y> without the term that is left out, and <B, C>
  real *X, *g, *out, *B, *C;                // rows of a chunk, in whole vectors
  vec *sums_B, *sums_C;                     // kChunk vectors a tile of columns
  vec* leaving;                             // S entering the chunk, and after every kRestart steps
  vec* L;                                   // a matrix a head
  real *dD, *later;                         // width numbers a head; the first decay of the chunk after this one
  double *dA, *dbias;                       // a number a head
  SsdBackwardSpace(Carver& from, int64_t heads, int64_t width, int64_t states) {
    const int64_t wide = blocks_of(width) * kLanes, matrix = wide / kLanes * states;
    for (real** steps : {&step, &slope, &decay, &gy, &bc}) *steps = from.take<real>(kChunk + 1);
    for (real** rows : {&X, &g, &out}) *rows = from.take<real>(kChunk * wide);
    for (real** rows : {&B, &C}) *rows = from.take<real>(kChunk * states);
    for (vec** sums : {&sums_B, &sums_C}) *sums = from.take<vec>(kChunk * states);
    leaving = from.take<vec>((1 + kChunk / kRestart) * matrix);
    L = from.take<vec>(heads * matrix);
    dD = from.take<real>(heads * wide);
    later = from.take<real>(heads);
    dA = from.take<double>(heads);
    dbias = from.take<double>(heads);
  }
};

// Adds the lanes of half-added sums of a chunk into rows.
inline void finish_sums(const vec* sums, int steps, int64_t columns, const Rows<real>& to, int64_t batch,
                        int64_t start) {
  constexpr auto lanes = std::make_index_sequence<kLanes>();
  constexpr bool inside = kLanes <= kBlock;
  for_tiles<kLanes / 2>(columns, [&](auto size, int n) {
    for (int t = 0; t < steps; ++t) {
      real row[kLanes];
      if constexpr (inside) store(row, interleave<0>(sums[t], vec{}, lanes) + interleave<1>(sums[t], vec{}, lanes));
      else store(row, pick<0>(sums[t], vec{}, lanes) + pick<1>(sums[t], vec{}, lanes));
      real* out = to.at(batch, start + t) + n;
      for (int i = 0; i < size; ++i) out[i] = row[inside ? 2 * i : i];
    }
    sums += kChunk;
  });
}

// A slice of heads of one batch element.
template <class T>
class SsdBackward {
 public:
  SsdBackward(const Ssd& s, const SsdGradients& grad, int64_t batch, int64_t slice, int64_t begin, int64_t end,
              SsdBackwardSpace space)
      : s_(s), grad_(grad), batch_(batch), slice_(slice), begin_(begin), end_(end), work_(space), P_(s.width),
        N_(s.states), wide_(blocks_of(P_) * kLanes), matrix_(wide_ / kLanes * N_) {}

  void run() {
    for (int64_t h = begin_; h < end_; ++h) {
      const int64_t i = h - begin_, head = batch_ * s_.heads + h;
      load_matrix(grad_.last_state ? grad_.last_state + head * P_ * N_ : nullptr, P_, N_, work_.L + i * matrix_);
      // The gradient of the last state enters the first backward step undecayed.
      work_.later[i] = 1;
      work_.dA[i] = work_.dbias[i] = 0;
      std::memset(work_.dD + i * wide_, 0, wide_ * sizeof(real));
    }
    const int64_t chunks = (s_.length + kChunk - 1) / kChunk;
    for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
      int64_t group = -1;
      for (int64_t h = begin_; h < end_; ++h) {
        if (Head<T>::group(s_, h) != group) {
          finish_group(group, chunk);
          group = Head<T>::group(s_, h);
          start_group(Head<T>(s_, h), chunk);
        }
        run_head(h, chunk);
      }
      finish_group(group, chunk);
    }
    for (int64_t h = begin_; h < end_; ++h) {
      const int64_t i = h - begin_, head = batch_ * s_.heads + h;
      grad_.A[head] = static_cast<real>(work_.dA[i]);
      if (grad_.dt_bias) grad_.dt_bias[head] = static_cast<real>(work_.dbias[i]);
      if (grad_.D) std::memcpy(grad_.D + head * P_, work_.dD + i * wide_, P_ * sizeof(real));
      if (grad_.initial_state)
        store_matrix(work_.L + i * matrix_, P_, N_, work_.later[i], grad_.initial_state + head * P_ * N_);
    }
  }

 private:
  Rows<const T> g_of(int64_t h) const {
    return {static_cast<const T*>(grad_.out) + h * grad_.out_head, grad_.out_batch, grad_.out_time, s_.length,
            s_.reverse != 0};
  }
  Rows<T> of_head(void* to, int64_t h) const {
    T* base = to ? static_cast<T*>(to) + h * P_ : nullptr;
    return {base, s_.length * s_.heads * P_, s_.heads * P_, s_.length, s_.reverse != 0};
  }
  Rows<real> of_group(real* to, int64_t group) const {
    const int64_t row = s_.groups * N_;
    return {to + slice_ * s_.batch * s_.length * row + group * N_, s_.length * row, row, s_.length, s_.reverse != 0};
  }
  int steps_of(int64_t start) const {
    return static_cast<int>(s_.length - start < kChunk ? s_.length - start : kChunk);
  }
  real product(const vec* one, const vec* other) const {
    vec sums[4] = {};
    for (int64_t i = 0; i < matrix_; ++i) sums[i % 4] += one[i] * other[i];
    return sum_lanes(sums[0] + sums[1] + (sums[2] + sums[3]));
  }

  void start_group(const Head<T>& head, int64_t chunk) {
    const int64_t start = chunk * kChunk;
    const int steps = steps_of(start);
    B_ = table(head.B.at(batch_, start), head.B.time_stride, steps, N_, work_.B);
    C_ = table(head.C.at(batch_, start), head.C.time_stride, steps, N_, work_.C);
    for (int t = 0; t < steps; ++t) {
      vec shared = {};
      for (int64_t n = 0; n < N_; n += kLanes)
        shared += load(B_.row(t) + n, lanes_at(N_, n)) * load(C_.row(t) + n, lanes_at(N_, n));
      work_.bc[t] = sum_lanes(shared);
    }
    std::memset(static_cast<void*>(work_.sums_B), 0, kChunk * N_ * sizeof(vec));
    std::memset(static_cast<void*>(work_.sums_C), 0, kChunk * N_ * sizeof(vec));
  }
  void finish_group(int64_t group, int64_t chunk) const {
    if (group < 0) return;
    const int64_t start = chunk * kChunk;
    finish_sums(work_.sums_B, steps_of(start), N_, of_group(grad_.B, group), batch_, start);
    finish_sums(work_.sums_C, steps_of(start), N_, of_group(grad_.C, group), batch_, start);
  }

  void run_head(int64_t h, int64_t chunk) {
    const Head<T> head(s_, h);
    const int64_t start = chunk * kChunk, i = h - begin_;
    const int steps = steps_of(start);
    const Rows<const T> g = g_of(h);
    step_sizes(head.dt, batch_, start, steps, head.A, head.bias, s_.softplus, work_.step, work_.decay, work_.slope);
    work_.decay[steps] = work_.later[i];
    read_rows(head.x, batch_, start, steps, P_, wide_, work_.step, work_.X);
    read_rows(g, batch_, start, steps, P_, wide_, nullptr, work_.g);
    if (head.z)
      for (int t = 0; t < steps; ++t)
        for (int64_t p = 0; p < P_; p += kLanes) {
          const vec z = load(head.z.at(batch_, start + t) + p, lanes_at(P_, p));
          real* to = work_.g + t * wide_ + p;
          store(to, load(to) * z * sigmoid(z));
        }
    read_states(s_, batch_, chunk, h, work_.leaving);

    Fetches reads(kRestart), writes(kRestart);
    const int64_t next = h + 1 < end_ ? start : start - kChunk;
    if (next >= 0 && next + kChunk <= s_.length) {
      const int64_t other = h + 1 < end_ ? h + 1 : begin_;
      reads.add(Head<T>(s_, other).x, batch_, next, P_);
      reads.add(g_of(other), batch_, next, P_);
      reads.add(Head<T>(s_, other).z, batch_, next, P_);
      writes.add(of_head(grad_.x, other), batch_, next, P_);
      writes.add(of_head(grad_.z, other), batch_, next, P_);
    }
    forward(head, g, h, start, steps, reads);
    backward(head, h, start, steps, writes);
    work_.later[i] = work_.decay[0];
  }

  // y and the gradients of z and C.
  void forward(const Head<T>& head, const Rows<const T>& g, int64_t h, int64_t start, int steps, Fetches& fetches) {
    std::memset(work_.out, 0, steps * wide_ * sizeof(real));
    const Table X{work_.X, wide_}, gy{work_.g, wide_};
    vec* state = work_.leaving;
    for (int t = 0; t < steps; t += kRestart, state += matrix_) {
      const int count = steps - t < kRestart ? steps - t : kRestart;
      const Tables rows{X.from(t), B_.from(t), C_.from(t), gy.from(t), work_.out + t * wide_, wide_};
      matrix_scan<true>(Decays(work_.decay + t, 1, count), rows, wide_, N_, state, state + matrix_, work_.sums_C + t,
                        1, fetches);
    }
    const Rows<T> dz = of_head(grad_.z, h);
    for (int t = 0; t < steps; ++t) {
      vec product = {};
      for (int64_t p = 0; p < P_; p += kLanes) {
        const int count = lanes_at(P_, p);
        vec y = load(work_.out + t * wide_ + p);
        product += y * load(work_.g + t * wide_ + p);
        if (!head.z) continue;
        y += load(work_.X + t * wide_ + p) * work_.bc[t];
        const vec z = load(head.z.at(batch_, start + t) + p, count);
        if (head.skip) y += load(head.skip + p, count) * load(head.x.at(batch_, start + t) + p, count);
        store(dz.at(batch_, start + t) + p,
              load(g.at(batch_, start + t) + p, count) * y * silu_slope(z, sigmoid(z)), count);
      }
      work_.gy[t] = sum_lanes(product);
    }
  }

  // The gradients of x, dt, A, D and B.
  void backward(const Head<T>& head, int64_t h, int64_t start, int steps, Fetches& fetches) {
    const int64_t i = h - begin_;
    // Rows from the one before `end` down; the decay that belongs to a step is that of the step after it.
    const real* decay = work_.decay;
    const auto before = [](Table rows, int end) { return Table{rows.row(end - 1), -rows.stride}; };
    const Table X{work_.X, wide_}, gy{work_.g, wide_};
    vec* L = work_.L + i * matrix_;
    real restart[kChunk / kRestart] = {};
    std::memset(work_.out, 0, steps * wide_ * sizeof(real));
    for (int t = (steps - 1) / kRestart * kRestart; t >= 0; t -= kRestart) {
      const int end = t + kRestart < steps ? t + kRestart : steps, segment = t / kRestart;
      restart[segment] = decay[end] * product(L, work_.leaving + (segment + 1) * matrix_);
      const Tables rows{before(gy, end), before(C_, end), before(B_, end), before(X, end),
                        work_.out + (end - 1) * wide_, -wide_};
      matrix_scan<true>(Decays(decay + end, -1, end - t), rows, wide_, N_, L, L, work_.sums_B + end - 1, -1,
                        fetches);
    }
    const Rows<T> dx = of_head(grad_.x, h);
    const Rows<real> ddt(grad_.dt + h, s_.length * s_.heads, s_.heads, s_.length, s_.reverse);
    double e = 0, dA = 0, dbias = 0;
    for (int t = steps - 1; t >= 0; --t) {
      if (t == steps - 1 || t % kRestart == kRestart - 1) e = restart[t / kRestart];
      const real step = work_.step[t], bc = work_.bc[t];
      vec dXx = {}, gx = {};
      for (int64_t p = 0; p < P_; p += kLanes) {
        const int count = lanes_at(P_, p);
        const vec x = load(head.x.at(batch_, start + t) + p, count), gy = load(work_.g + t * wide_ + p);
        const vec dX = load(work_.out + t * wide_ + p);
        dXx += dX * x;
        gx += gy * x;
        vec dx_row = (dX + gy * bc) * step;
        if (head.skip) dx_row += load(head.skip + p, count) * gy;
        store(dx.at(batch_, start + t) + p, dx_row, count);
        real* dD = work_.dD + i * wide_ + p;
        store(dD, load(dD) + gy * x);
      }
      const real along = sum_lanes(dXx);
      e += work_.gy[t] - step * along;
      if (decay[t] < kForgets) e = 0;
      const real change = static_cast<real>((along + bc * sum_lanes(gx) + head.A * e) * work_.slope[t]);
      *ddt.at(batch_, start + t) = change;
      dbias += change;
      dA += e * step;
    }
    work_.dA[i] += dA;
    work_.dbias[i] += dbias;
  }

  const Ssd& s_;
  const SsdGradients& grad_;
  const int64_t batch_, slice_, begin_, end_;
  const SsdBackwardSpace work_;
  const int64_t P_, N_, wide_, matrix_;
  Table B_{}, C_{};
};

template <class T>
bool ssd_backward(const Ssd& s, const SsdGradients& grad) {
  const int64_t widest = (s.heads + s.slices - 1) / s.slices;
  return over_heads<SsdBackwardSpace>(
      s, [&](int64_t batch, int64_t slice, int64_t begin, int64_t end, SsdBackwardSpace work) {
        SsdBackward<T>(s, grad, batch, slice, begin, end, work).run();
      },
      widest, s.width, s.states);
}

}  // namespace scan

"""The distillation loss, which is what students are trained on; needs torch alone.

For logits z (N rows, V classes or tokens of the vocabulary), p(T) = softmax(z / T), teacher t, student s, label y:

    loss = (1 - kd_weight) · H(y_LS, p_s(1)) + kd_weight · T_s² · KL(p_t(T) ‖ p_s(T_s))
    y_LS = (1 - α) · onehot(y) + α / V

Read the modules in this order:

1. :mod:`lskd.loss.reference`: this formula as it stands, in a dozen plain and slow lines of float64; then the other
   distillation terms that ``loss`` can name in place of T_s²·KL, with their sources.
2. :mod:`lskd.loss.distillation`: the loss to use, with the same sums: exact in any precision, value and gradient in one
   pass, in chunks that fit the cache. :mod:`lskd.loss.types` has what it takes and returns.
3. :mod:`lskd.loss.rows`: the arithmetic of one chunk on a CPU, :mod:`lskd.loss.fused` that on a GPU, and
   :mod:`lskd.loss.variants` that of the other losses; :mod:`lskd.loss.schedule` for a T that changes.
4. :mod:`lskd.loss.module`: the loss as an ``nn.Module`` with the conventions of torch's own losses.
"""

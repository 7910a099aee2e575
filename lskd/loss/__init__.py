"""The distillation loss, on which students are trained; needs only torch.

For logits z (N rows, V classes or tokens of the vocabulary), p(T) = softmax(z / T), teacher t, student s, label y:

    loss = (1 - kd_weight) · H(y_LS, p_s(1)) + kd_weight · T_s² · KL(p_t(T) ‖ p_s(T_s))
    y_LS = (1 - α) · onehot(y) + α / V

Read the modules in this order:

1. :mod:`lskd.loss.reference`: the formula written out literally, in a dozen plain and slow lines of float64; then the
   other distillation terms that ``loss`` can name in place of T_s²·KL, with their sources.
2. :mod:`lskd.loss.distillation`: the loss to use, which returns the same sums: accurate for logits of any precision,
   value and gradient in one pass, in chunks that fit the cache. Its types are in :mod:`lskd.loss.types`.
3. :mod:`lskd.loss.rows`: the arithmetic of one chunk on a CPU; :mod:`lskd.loss.fused`: the same on a GPU;
   :mod:`lskd.loss.variants`: the other losses; :mod:`lskd.loss.schedule`: a T that changes during training.
4. :mod:`lskd.loss.module`: the loss as an ``nn.Module`` with the conventions of torch's own losses.
"""

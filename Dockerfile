# For an NVIDIA GPU. Build: docker build -t lskd . The guide "Many students, many GPUs, Slurm" says how to run it.
FROM pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime

# A compiler, for fairseq's extensions here, and for torch.compile when it runs.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

# fairseq is built with the image's torch, which stays as it is.
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY lskd lskd
COPY lskd_fairseq lskd_fairseq
COPY lskd_vision lskd_vision
COPY data_prep data_prep
COPY scripts scripts
RUN python -c "import importlib.metadata as m; [print(f'{n}=={m.version(n)}') for n in ('torch', 'torchvision')]" > /torch.txt \
    && pip install --no-cache-dir "setuptools>=77" wheel cython numpy \
    && pip install --no-cache-dir --no-build-isolation --constraint /torch.txt ".[all]" \
    && rm -r /source/*

# Any user may run it, and has a home for caches.
ENV HOME=/tmp USER=lskd OMP_NUM_THREADS=4
WORKDIR /work
ENTRYPOINT ["lskd"]
CMD ["--help"]

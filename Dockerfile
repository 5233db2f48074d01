# The notebooks in JupyterLab, on the embedded models and the CPU:
#   docker build -t interp_lib . && docker run --rm -p 8888:8888 interp_lib
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /work
COPY requirements.lock .
RUN python -m pip install --no-cache-dir -r requirements.lock
COPY . .
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation -e .
EXPOSE 8888
CMD ["make", "lab", "PY=python", "LAB=--ip=0.0.0.0 --allow-root --no-browser"]

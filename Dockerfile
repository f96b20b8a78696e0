# OVS Lens on CPUs; docs/serving.md says how to run it.
FROM python:3.12-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir uv && uv pip install --system --no-cache --torch-backend=cpu -r requirements.txt
COPY . .
RUN useradd --create-home --uid 1000 lens && mkdir /data && chown lens /data
USER lens
ENV XDG_CACHE_HOME=/data/cache XDG_DATA_HOME=/data/share
VOLUME /data
EXPOSE 7860
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860", "--no-browser", "--weights-dir", "/data/weights"]

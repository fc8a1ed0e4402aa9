#!/usr/bin/env bash
# Ray on one node of a Slurm job, until it is told to end; d3ke.sbatch starts it on every node.
set -euo pipefail

# Short, because paths of sockets end at 107 characters; the head's folder is used on all nodes.
folder=${D3KE_SCRATCH:-/tmp}/d3ke-$SLURM_JOB_ID
port=$D3KE_FIRST_PORT
options=(
  --block
  --num-cpus "$SLURM_CPUS_PER_TASK"
  --num-gpus "${SLURM_GPUS_ON_NODE:-0}"
  --dashboard-agent-listen-port $((port + 2))
  --metrics-export-port $((port + 3))
  --min-worker-port 0 --max-worker-port 0 # any free port
)
if [[ -n ${SLURM_MEM_PER_NODE:-} ]]; then # MB; else Ray takes a share of the whole machine
  options+=(--object-store-memory $((SLURM_MEM_PER_NODE * 1024 * 1024 * 3 / 10)))
fi
addresses=$(ip -4 -o addr)
if [[ $addresses == *" $D3KE_HEAD_ADDRESS/"* ]]; then
  address=$D3KE_HEAD_ADDRESS
  options+=(
    --head --port "$port" --temp-dir "$folder" --ray-client-server-port $((port + 6))
    --dashboard-host 127.0.0.1 --dashboard-port $((port + 1))
  )
else
  address=$(ip -4 route get "$D3KE_HEAD_ADDRESS" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  options+=(--address "$D3KE_HEAD_ADDRESS:$port")
fi
# Training processes meet through this interface, not through what the node's name stands for.
interface=$(ip -4 -o addr | awk -v own="$address" '{split($4, part, "/"); if (part[1] == own) print $2}')
export GLOO_SOCKET_IFNAME=$interface NCCL_SOCKET_IFNAME=$interface
export AUTOSCALER_METRIC_PORT=$((port + 4)) DASHBOARD_METRIC_PORT=$((port + 5))
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # Ray ends after the job: there is nothing to wait for
export RAY_NUM_REDIS_GET_RETRIES=150 # 5 minutes for a head whose Python comes over the network

ray=''
take_down() {
  [[ -z $ray ]] || kill -TERM "$ray" 2>/dev/null || true
  wait
  rm -rf "$folder"
}
trap take_down EXIT
trap 'exit 0' TERM INT
# A worker comes when the head is there: its agent's port is the last to open.
if [[ $address != "$D3KE_HEAD_ADDRESS" ]]; then
  until (: <"/dev/tcp/$D3KE_HEAD_ADDRESS/$((port + 2))") 2>/dev/null; do sleep 1; done
fi
"$D3KE_PYTHON" -m ray.scripts.scripts start --node-ip-address "$address" "${options[@]}" &
ray=$!
wait "$ray" || true
# Jobs go on without a worker, not without the head: an error here ends all nodes.
[[ $address != "$D3KE_HEAD_ADDRESS" ]] || exit 1

#!/usr/bin/env bash
# Makes what bots show and say: five seconds of a picture of our own (an orange field that goes round a red one on green) in three
# sizes of VP8, and a second of a tone in Opus. Nobody else's work is in them. Needs ffmpeg with libvpx and libopus, and python3.
#
# Each frame, the keyframe too, must fit one packet (src/call/pictures.rs): what is missing to the wished rate is filled up there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
plain=(-y -v error -fflags +bitexact)

picture() {
  local name=$1 w=$2 h=$3 rate=r=30:d=5
  ffmpeg "${plain[@]}" -f lavfi -i "color=c=teal:s=${w}x$h:$rate" \
    -f lavfi -i "color=c=orange:s=$((w / 4))x$((h / 64 * 16)):$rate" -f lavfi -i "color=c=crimson:s=$((w / 8))x$((h / 32 * 16)):$rate" \
    -filter_complex "[0][1]overlay=x='(W-w)/2*(1+sin(2*PI*t/5))':y='(H-h)/2*(1+cos(2*PI*t/5))'[a];[a][2]overlay=x=W/16:y=floor(H/64)*16" \
    -c:v libvpx -g 1000 -auto-alt-ref 0 -lag-in-frames 0 -b:v 60k -qmin 50 -qmax 63 -deadline best -cpu-used 0 -pix_fmt yuv420p \
    -flags +bitexact "$name.ivf"
}
picture q 320 180
picture h 640 360
picture f 960 540

# Constant bit rate and one mode: each frame has 60 bytes, of which the first says what it is (RFC 6716 §3.1).
ffmpeg "${plain[@]}" -f lavfi -i "sine=frequency=440:sample_rate=48000:duration=3" -ac 1 -c:a libopus -vbr off -b:a 24k \
  -frame_duration 20 -application lowdelay -f ogg tone.ogg
python3 - <<'P'
import struct
packets, packet, at, ogg = [], b'', 0, open('tone.ogg', 'rb').read()
while at < len(ogg):
    count = ogg[at + 26]
    sizes, at = ogg[at + 27:at + 27 + count], at + 27 + count
    for size in sizes:
        packet, at = packet + ogg[at:at + size], at + size
        if size < 255:
            packets, packet = packets + [packet], b''
second = packets[52:102]
assert {(len(it), it[0]) for it in second} == {(60, 0xb8)}, {(len(it), it[0]) for it in second}
open('tone.opus', 'wb').write(b''.join(second))
for name in 'qhf':
    ivf, at, frames = open(name + '.ivf', 'rb').read(), 32, []
    while at < len(ivf):
        length = struct.unpack('<I', ivf[at:at + 4])[0]
        frames.append((length, ivf[at + 12] & 1 == 0))
        at += 12 + length
    assert len(frames) == 150 and [key for _, key in frames] == [True] + 149 * [False]
    assert max(frames)[0] <= 1050, max(frames)
    print(name, 'keyframe', frames[0][0], 'longest', max(frames)[0], 'all', len(ivf))
P
rm tone.ogg

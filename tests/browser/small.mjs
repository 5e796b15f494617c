// A screenshot in 256 colours, which is a third of the size: pages have few.

import { deflateSync, gzipSync, inflateSync } from "node:zlib";

/** A PNG of 8 bits a channel, not interlaced, as one with a palette. */
export function small(png) {
  const parts = chunks(png);
  const head = parts.find(({ name }) => name === "IHDR").data;
  const [width, height, channels] = [head.readUInt32BE(0), head.readUInt32BE(4), head[9] === 6 ? 4 : 3];
  const packed = Buffer.concat(parts.filter(({ name }) => name === "IDAT").map(({ data }) => data));
  const pixels = unfiltered(inflateSync(packed), width * channels, height, channels);

  const counts = new Map();
  for (let at = 0; at < pixels.length; at += channels) {
    const colour = pixels.readUIntBE(at, 3);
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const palette = [...counts].sort((one, other) => other[1] - one[1]).slice(0, 256).map(([colour]) => colour);
  const places = new Map(palette.map((colour, place) => [colour, place]));
  const rows = Buffer.alloc((width + 1) * height);
  for (let at = 0; at < width * height; at += 1) {
    const colour = pixels.readUIntBE(at * channels, 3);
    if (!places.has(colour)) places.set(colour, nearest(palette, colour));
    rows[at + Math.floor(at / width) + 1] = places.get(colour);
  }
  const newHead = Buffer.from(head);
  newHead[9] = 3;
  const colours = Buffer.concat(palette.map((colour) => Buffer.from([colour >> 16, (colour >> 8) & 255, colour & 255])));
  const body = [["IHDR", newHead], ["PLTE", colours], ["IDAT", deflateSync(rows, { level: 9 })], ["IEND", Buffer.alloc(0)]];
  return Buffer.concat([png.subarray(0, 8), ...body.map(([name, data]) => chunk(name, data))]);
}

function chunks(png) {
  const found = [];
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    found.push({ name: png.toString("latin1", at + 4, at + 8), data: png.subarray(at + 8, at + 8 + length) });
    at += length + 12;
  }
  return found;
}

/** As gzip has it before its end (RFC 1952): Debian 12's node has no crc32 of its own. */
function crc32(bytes) {
  return gzipSync(bytes, { level: 0 }).subarray(-8).readUInt32LE();
}

function chunk(name, data) {
  const named = Buffer.concat([Buffer.from(name, "latin1"), data]);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  check.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, check]);
}

/** Undoes the filters of PNG, section 9. */
function unfiltered(bytes, row, height, step) {
  const pixels = Buffer.alloc(row * height);
  for (let y = 0; y < height; y += 1) {
    const filter = bytes[y * (row + 1)];
    for (let x = 0; x < row; x += 1) {
      const at = y * row + x;
      const left = x >= step ? pixels[at - step] : 0;
      const above = y > 0 ? pixels[at - row] : 0;
      const corner = x >= step && y > 0 ? pixels[at - row - step] : 0;
      const guess = [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter];
      pixels[at] = bytes[y * (row + 1) + 1 + x] + guess;
    }
  }
  return pixels;
}

function paeth(left, above, corner) {
  const guess = left + above - corner;
  const [toLeft, toAbove, toCorner] = [left, above, corner].map((value) => Math.abs(guess - value));
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

function nearest(palette, colour) {
  const parts = (one) => [one >> 16, (one >> 8) & 255, one & 255];
  const [wanted, best] = [parts(colour), { place: 0, distance: Infinity }];
  palette.forEach((known, place) => {
    const distance = parts(known).reduce((sum, part, channel) => sum + (part - wanted[channel]) ** 2, 0);
    if (distance < best.distance) Object.assign(best, { place, distance });
  });
  return best.place;
}

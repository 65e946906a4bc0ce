// The flock: every message is a bird, coloured by its node, that flies out of the picture.

import { $, hue } from "./page.js";

const FLOCK_SECONDS = 14, FLOCK_BIRDS = 700;

const birds = [];
const still = matchMedia("(prefers-reduced-motion: reduce)");
let flying = 0;

export function fly(now, from) {
  birds.push({ at: now, y: Math.random(), size: 2 + Math.random() * 1.5, hue: hue(from || ""), outside: !from });
  if (birds.length > FLOCK_BIRDS) birds.shift();
  if (!flying) flying = requestAnimationFrame(drawFlock);
}

function drawFlock(now) {
  const canvas = $("flock"), scale = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const figures = document.querySelector("dl > :last-child > dd");
  const sky = width - 12 - (figures.getBoundingClientRect().right - canvas.getBoundingClientRect().left + 24);
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.lineWidth = 1.25;
  pen.lineCap = "round";
  while (birds.length && now - birds[0].at > FLOCK_SECONDS * 1000) birds.shift();
  const style = getComputedStyle(document.documentElement);
  const light = style.getPropertyValue("--node-light"), chroma = style.getPropertyValue("--node-chroma");
  for (const bird of birds) {
    const age = Math.max(0, now - bird.at) / 1000 / FLOCK_SECONDS;
    const x = width - 16 - age * Math.max(sky, 40);
    const y = 6 + bird.y * (height - 14) + Math.sin(age * 9 + bird.y * 7) * 3;
    const wing = bird.size * (1 + 0.35 * Math.sin(now / 90 + bird.y * 40));
    pen.strokeStyle = bird.outside ? style.getPropertyValue("--soft") : `oklch(${light} ${chroma} ${bird.hue})`;
    pen.globalAlpha = Math.min(1, (1 - age) * 2);
    pen.beginPath();
    pen.moveTo(x - bird.size * 1.5, y);
    pen.quadraticCurveTo(x - bird.size * 0.7, y - wing, x, y);
    pen.quadraticCurveTo(x + bird.size * 0.7, y - wing, x + bird.size * 1.5, y);
    pen.stroke();
  }
  flying = 0;
  if (!birds.length) return;
  if (still.matches) flying = setTimeout(() => drawFlock(performance.now()), 1000);
  else flying = requestAnimationFrame(drawFlock);
}

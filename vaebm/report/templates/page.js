for (const film of document.querySelectorAll(".film")) {
  const screen = film.querySelector(".screen");
  const slider = film.querySelector("input");
  const button = film.querySelector("button");
  const output = film.querySelector("output");
  const labels = film.dataset.labels.split("|");
  const last = labels.length - 1;
  let timer = 0;
  const show = (frame) => {
    slider.value = frame;
    output.value = labels[frame];
    screen.style.backgroundPosition = `0 ${last ? (100 * frame) / last : 0}%`;
  };
  const stop = () => {
    clearTimeout(timer);
    timer = 0;
    button.textContent = "Play";
  };
  const play = () => {
    button.textContent = "Pause";
    const frame = Number(slider.value);
    const next = frame === last ? 0 : frame + 1;
    show(next);
    timer = setTimeout(play, next === last ? 1800 : next === 0 ? 900 : 320);
  };
  button.addEventListener("click", () => (timer ? stop() : play()));
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
}

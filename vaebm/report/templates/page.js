for (const animation of document.querySelectorAll(".animation")) {
  const screen = animation.querySelector(".screen");
  const slider = animation.querySelector("input");
  const button = animation.querySelector("button");
  const output = animation.querySelector("output");
  const labels = animation.dataset.labels.split("|");
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

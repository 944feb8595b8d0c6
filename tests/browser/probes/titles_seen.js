// Notes every title of the welcome that a person could see, from the first frame on.
window.titlesSeen = [];
const look = () => {
  const title = document.querySelector(".sn-welcome h2");
  const seen = title?.checkVisibility({ visibilityProperty: true }) ? title.textContent : null;
  if (seen && !window.titlesSeen.includes(seen)) window.titlesSeen.push(seen);
  requestAnimationFrame(look);
};
look();

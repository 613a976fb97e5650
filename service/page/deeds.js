// Buttons and forms of the page's own HTML: each names its deed in data-act.
const deeds = ["look", "again", "life", "rename", "forget", "keep"];
const act = (from, more) => {
  const { act, ...facts } = from.dataset;
  if (deeds.includes(act)) trigger(act, { ...facts, ...more });
};
element.addEventListener("click", (event) => {
  const from = event.target.closest("button[data-act]");
  const dialog = element.querySelector("dialog");
  if (dialog && (event.target === dialog || (from && from.dataset.act === "close"))) return dialog.close();
  if (from) act(from, {});
});
element.addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.target, Object.fromEntries(new FormData(event.target)));
});
watch("value", () => {
  const dialog = element.querySelector("dialog");
  if (dialog && !dialog.open) dialog.showModal();
  if (element.closest("#hits") && props.value && window.innerWidth < 768)
    element.scrollIntoView({ behavior: "smooth", block: "start" });
});

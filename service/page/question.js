// The field for a picture: drop, paste, choose. `props.value` is the question that the server reads.
const input = element.querySelector("input[type=file]");
const field = element.querySelector(".drop");
const problem = element.querySelector(".message");
const most = props.most;

const take = (file) => {
  problem.hidden = true;
  if (!file) return;
  if (!file.type.startsWith("image/")) return refuse("This file is no picture.");
  if (file.size > most) return refuse(`This picture has more than ${(most / 1048576).toFixed(1)} MB.`);
  const reader = new FileReader();
  reader.onload = () => give({ data: reader.result });
  reader.onerror = () => refuse("This file cannot be read.");
  reader.readAsDataURL(file);
};
const refuse = (words) => {
  problem.textContent = words;
  problem.hidden = false;
};
const give = (value) => {
  props.value = value;
  input.value = "";
  setTimeout(() => trigger("asked"), 0);
};

element.addEventListener("change", (event) => event.target === input && take(input.files[0]));
element.addEventListener("click", (event) => {
  if (event.target.closest(".clear")) {
    event.preventDefault();
    give({});
    input.focus();
  }
});
for (const name of ["dragenter", "dragover"])
  element.addEventListener(name, (event) => {
    event.preventDefault();
    field.classList.add("over");
  });
for (const name of ["dragleave", "drop"]) element.addEventListener(name, () => field.classList.remove("over"));
element.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});
// A picture is pasted wherever the focus is, into the field that is seen.
document.addEventListener("paste", (event) => {
  if (!element.isConnected || !field.offsetParent) return;
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    take(file);
  }
});

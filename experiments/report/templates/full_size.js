// A figure at its full size: from the page itself, so that a page that was mailed has them, too.
for (const link of document.querySelectorAll("a.full")) {
  link.addEventListener("click", (event) => {
    const text = atob(link.closest("figure").querySelector("img").src.split(",")[1]);
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    const address = URL.createObjectURL(new Blob([bytes], { type: "image/svg+xml" }));
    if (window.open(address)) event.preventDefault();
  });
}

// Holds back what htmx asks by itself, again and again: in a tab that nobody sees, and once the session has ended.
let signedOut = false;

document.addEventListener("htmx:beforeRequest", (event) => {
  const trigger = event.detail.elt.getAttribute("hx-trigger") ?? "";
  if (trigger.startsWith("every") && (document.hidden || signedOut)) event.preventDefault();
});
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) signedOut = true;
});
// Whoever comes back to the tab may have signed in elsewhere: one more question tells.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) signedOut = false;
});
window.addEventListener("focus", () => {
  signedOut = false;
});
